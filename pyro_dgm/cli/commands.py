"""The subcommands of ``pyro-dgm``, one function each."""

from __future__ import annotations

import functools
import inspect
import math
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from .arguments import parser, print_json, settings


def list(options: Namespace) -> None:
    """Print models, datasets and recipes."""
    from .. import data, recipes, registry

    content = {
        "models": {name: _summary(cls) for name, cls in sorted(registry.models().items())},
        "data": data.names(),
        "recipes": {name: recipe["title"] for name, recipe in recipes.recipes().items()},
    }
    if options.json:
        print_json(content)
        return
    for title, entries in content.items():
        print(f"{title}:")
        for name, text in entries.items():
            print(f"  {name:<18} {text}")


def _summary(cls: type) -> str:
    """The first line of a class's docstring."""
    return (inspect.getdoc(cls) or "").splitlines()[0].rstrip(".")


def fit(options: Namespace) -> None:
    """Train a model and write a run."""
    from .. import registry, train

    binarisation = options.binarisation or ("threshold" if options.data == "digits" else "none")
    source = {"source": options.data, "binarisation": binarisation, "seed": options.seed}
    if options.preprocessing:
        source |= {"binarisation": options.binarisation or "none", "preprocessing": options.preprocessing}
    if options.classes:
        source |= {"classes": options.classes}
    dataset = _load(source, options.data_dir)
    model_options = settings(options.set) | ({"classes": options.classes} if options.classes else {})
    model = registry.build(options.model, model_options, dataset.visible - (options.classes or 0), options.seed)
    objective_options = settings(options.objective, "--objective")
    objective = registry.call(model.objective, objective_options, f"the objective of {type(model).__name__}")
    out = options.out or f"runs/{type(model).__name__.lower()}"
    run = train.fit(
        model,
        dataset,
        objective=objective,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        optimiser=options.optimiser,
        decay=options.decay,
        average=options.average,
        patience=options.patience,
        keep=options.keep,
        seed=options.seed,
        out=out,
        resume=options.resume,
        device=options.device,
        devices=options.devices,
        logger=options.logger,
        progress=not options.quiet,
        source=source,
    )
    if run.history:
        print(", ".join(f"{name} {value:.4g}" for name, value in run.history[-1].items()))
    if run.epoch < len(run.history):
        print(f"weights of epoch {run.epoch} of {len(run.history)}, the best one")
    _training_picture(run, _folder(out))
    print(f"run written to {out}")


def _load(source: dict[str, Any], data_dir: str | None) -> Any:
    """The dataset that a run's configuration describes under ``data``."""
    from .. import data

    binarisation = source["binarisation"]
    dataset = data.load(
        source["source"],
        data_dir=data_dir,
        binarisation=None if binarisation == "none" else binarisation,
        seed=source["seed"],
        preprocessing=source.get("preprocessing"),
    )
    return dataset.labelled(source["classes"]) if "classes" in source else dataset


def _open(options: Namespace) -> tuple[Any, dict[str, Any], Any]:
    """A run's model, configuration and dataset; seeds the random state."""
    import pyro

    from .. import processes, train
    from ..train.checkpoint import read_config
    from ..train.settings import check_devices

    check_devices(options.device, None)
    config = read_config(options.run)
    if "source" not in config["data"]:
        raise ValueError(f"{options.run} does not say where its data came from; evaluate it from Python with dgm.load")
    dataset = _load(config["data"], options.data_dir)
    processes.join(options.device)
    model = train.load(options.run, options.device, options.model)
    pyro.set_rng_seed(options.seed)
    return model, config, dataset


def _folder(run: str) -> Path:
    """The folder for pictures and draws: the run's in the first process, a scratch folder in the others."""
    from .. import processes

    return Path(run) if processes.first() else Path(_scratch().name)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that is deleted when the process ends."""
    return tempfile.TemporaryDirectory()


def evaluate(options: Namespace) -> None:
    """Print the log-likelihood of a run."""
    from ..evaluation.likelihood import with_details

    model, _, dataset = _open(options)
    split = getattr(dataset, options.split)
    if options.split == "train" and dataset.redraw is not None:
        raise ValueError("the training rows are drawn anew in every batch; evaluate --split valid or test")
    stated = {name: value for name, value in (("orders", options.orders), ("engine", options.engine)) if value}
    defaults = {} if dataset.redraw is not None else model.evidence_options(dataset.train.x, options.method)
    figure, details = with_details(model, split.to(options.device), method=options.method, **defaults, **stated)
    if options.json:
        print_json(figure.as_dict() | {"details": {k: v for k, v in details.items() if math.isfinite(v)}})
        return
    print(figure)
    for name, value in details.items():
        print(f"  {name.replace('_', ' ')}: {value:.4g}")


def sample(options: Namespace) -> None:
    """Draw samples; save them and pictures."""
    import numpy as np
    import torch

    from ..evaluation import pictures

    model, _, dataset = _open(options)
    if options.n < 1:
        raise ValueError(f"-n got {options.n}; expected at least 1")
    x = model.sample(options.n).cpu()
    run = _folder(options.run)
    np.savez_compressed(run / "samples.npz", x=x.numpy())
    if len(dataset.shape) >= 2:
        pictures.sample_grid(_grey(x[:SHOWN_SAMPLES], x[:SHOWN_SAMPLES]), dataset.shape, path=run / "samples.png")
        weight = getattr(model, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.dim() == 2 and len(weight) == dataset.visible:
            pictures.filters(weight.detach().cpu(), dataset.shape, path=run / "filters.png")
        if getattr(model, "latent", None) == 2 and hasattr(model, "decode"):
            pictures.latent_manifold(model.decode, dataset.shape, path=run / "manifold.png")
    print(f"{len(x)} samples in {run / 'samples.npz'}; pictures beside it")


def _grey(rows: Any, like: Any) -> Any:
    """Rows as grey levels: unchanged where the values of ``like`` are in [0, 1], else scaled by the range of these values."""
    low, high = min(float(like.min()), 0.0), max(float(like.max()), 1.0)
    return ((rows - low) / (high - low)).clamp(0, 1)


def impute(options: Namespace) -> None:
    """Fill in the unknown columns of test rows, or the holes in rows of a file; save them and a picture."""
    import numpy as np
    import torch

    from ..data.incomplete import incomplete_rows
    from ..evaluation import pictures

    model, _, dataset = _open(options)
    count, share = 10 if options.n is None else options.n, 0.5 if options.known is None else options.known
    if count < 1 or options.draws < 2:
        raise ValueError(f"-n and --draws got {count} and {options.draws}; expected at least 1 and 2")
    if not 0 < share < 1:
        raise ValueError(f"--known got {share}; expected a share between 0 and 1")
    if options.rows is not None:
        for flag, value in (("-n", options.n), ("--known", options.known)):
            if value is not None:
                raise ValueError(f"{flag} got {value}, which is for test rows, with --rows: leave it out")
        x = incomplete_rows(options.rows, dataset.visible).to(options.device)
        known, x = ~x.isnan(), x.nan_to_num()
    else:
        spread = torch.linspace(0, len(dataset.test) - 1, min(count, len(dataset.test))).long()
        x = dataset.test.x[spread].to(options.device)
        known = torch.arange(dataset.visible, device=x.device) < math.ceil(share * dataset.visible)
    means, details = model.impute_with_details(x, known, draws=options.draws)
    run = _folder(options.run)
    np.savez_compressed(
        run / "imputed.npz", x=x.cpu().numpy(), known=known.cpu().numpy(), means=means.cpu().numpy(), **details
    )
    if len(dataset.shape) >= 2:
        pictures.reconstructions(_grey(x, x).cpu(), _grey(means, x).cpu(), dataset.shape, path=run / "imputed.png")
    unit = "unknown values" if options.rows is not None else f"of {dataset.visible} columns"
    print(f"{len(x)} rows with {int((~known).sum())} {unit} imputed in {run / 'imputed.npz'}")
    for name, value in details.items():
        print(f"  {name.replace('_', ' ')}: {value if isinstance(value, str) else format(value, '.4g')}")


def diagnose(options: Namespace) -> None:
    """Run chains (or draw latents) and print ArviZ's summary; save the draws and a picture."""
    import arviz

    from ..evaluation import pictures, to_arviz

    model, _, dataset = _open(options)
    run = _folder(options.run)
    if "chains" in model.abilities():
        chains, warmup = options.chains, options.warmup
        chains, warmup = 20 if chains is None else chains, 500 if warmup is None else warmup
        idata = to_arviz(model.chains(options.draws, warmup, chains, options.engine or "torch"))
        pictures.energy_trace(idata, path=run / "energies.png")
    else:
        for flag, value in (("--engine", options.engine), ("--warmup", options.warmup)):
            if value is not None:
                raise ValueError(f"{flag} got {value!r}, but {type(model).__name__} has no chains to run; leave it out")
        chains = 4 if options.chains is None else options.chains
        idata = to_arviz(model, dataset.test.x[:10].to(options.device), num_samples=options.draws, num_chains=chains)
        if hasattr(model, "guide"):
            _latents(model, dataset.test.x[:LATENT_ROWS].to(options.device), run)
    with _wide_tables():
        print(arviz.summary(idata))
    idata.to_netcdf(str(run / "chains.nc"))
    print(f"draws in {run / 'chains.nc'}")


SHOWN_SAMPLES = 100
"""The most samples that the picture of ``sample`` shows."""

LATENT_ROWS = 500
"""The most test rows whose latents ``diagnose`` examines."""


def _latents(model: Any, x: Any, run: Path) -> None:
    """Print the KL term of every latent site and the number of its active units; save a picture of both."""
    from ..evaluation import active_units, kl_per_latent
    from ..evaluation.pictures import latent_bars

    divergences = kl_per_latent(model.model, model.guide, x)
    activities = active_units(model.model, model.guide, x)
    print(f"latents of {len(x)} test rows: KL(q || p) in nats per row, and units with Cov_x(E_q[z]) > 0.01")
    for name, kl in divergences.items():
        active = activities[name].active
        error = f" ± {kl.total_stderr:.2g}" if kl.total_stderr > 1e-6 else ""
        print(
            f"  {name:<10} {kl.total:8.4g}{error} ({kl.method}), {int(active.sum())} of {active.numel()} units active"
        )
        if kl.value.numel() > 1:
            largest = ", ".join(f"{v:.3g}" for v in kl.value.flatten().sort(descending=True).values[:10].tolist())
            print(f"  {'':<10} by unit: {largest}{', ...' if kl.value.numel() > 10 else ''}")
    latent_bars(divergences, activities, path=run / "latents.png")


def _wide_tables() -> Any:
    """A context in which pandas prints wide tables in full."""
    import pandas

    return pandas.option_context("display.width", 120, "display.max_columns", 20, "display.max_rows", 30)


def _training_picture(run: Any, out: Path) -> None:
    """Save the training curve of a run."""
    from ..evaluation import pictures

    if run.history:
        pictures.training_curve(run.history, path=out / "training.png")


def reproduce(options: Namespace) -> None:
    """Train and evaluate a recipe; write its result file."""
    from .. import recipes

    result = recipes.reproduce(
        options.name, Path(options.out), data_dir=options.data_dir, fast=options.fast, resume=options.resume
    )
    print(result["text"])
    print(f"result in {Path(options.out) / (options.name + ('-fast' if options.fast else ''))}")


DEMO_EPOCHS = 60
"""Epochs that the machine of ``demo`` is trained for."""


def demo(options: Namespace) -> None:
    """Take an RBM on digits from data to evidence: fit, evaluate, sample, impute, diagnose."""
    out = str(Path(options.out))
    training = (
        f"--set hidden=200 --epochs {DEMO_EPOCHS} --batch-size 20 --optimiser sgd --learning-rate 0.05 --decay linear "
        "--objective centred=True"
    )
    arguments = ["fit", "rbm", "--data", "digits", "--out", out, "--seed", str(options.seed), *training.split()]
    fit(parser().parse_args(arguments))
    for command in (evaluate, sample, impute, diagnose):
        print()
        command(parser().parse_args([command.__name__, out, "--seed", str(options.seed)]))
