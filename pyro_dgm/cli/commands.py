"""The subcommands of ``pyro-dgm``, one function each."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import data, processes, progress, recipes, registry, signatures, train
from ..extras import MissingExtra, need
from ..train.loggers import check_logger
from ..train.programs import width_of_codes
from .arguments import parser
from .explain import columns, summary
from .exporting import export as export
from .known import partly_known_rows
from .latents import print_latents
from .parts import NAMES, imputed_picture, last_line, likelihood, of_method
from .ranking import rank as rank
from .repeat import kept_by, options_of_torch, seed_of_data
from .report import report as report
from .runs import Opened, load, open_run, other_rows, scratch, write_npz
from .show import can_draw, print_details, print_json, wide_tables, write_idata
from .turing import turing as turing
from .written import also, check_place, write_rows


def list(options: Namespace) -> None:
    """Print models, datasets and recipes."""
    content = {
        "models": {name: summary(cls) for name, cls in sorted(registry.models().items())},
        "data": data.names(),
        "recipes": {name: recipe["title"] for name, recipe in recipes.recipes().items()},
    }
    if options.json:
        print_json(content)
        return
    for title, entries in content.items():
        print(f"{title}:\n{columns(entries.items())}")
    print("options of a model: pyro-dgm fit MODEL --help")


def fit(options: Namespace) -> None:
    """Train a model and write a run."""
    if options.model is None:
        raise ValueError("fit needs a model: a name from `pyro-dgm list`, or --config with the configuration of a run")
    cls: Any = registry.model(options.model)
    logger = _own(options.logger, "logger") if ":" in options.logger else options.logger
    check_logger(logger)
    chosen = {**getattr(options, "stored_options", {}), **signatures.settings(cls, options.set, "--set", cls.__name__)}
    if options.classes:
        chosen[cls.label_option] = options.classes
    of_objective = {
        **getattr(options, "stored_objective", {}),
        **signatures.settings(cls.objective, options.objective, "--objective", registry.objective_of(cls)),
    }
    binarisation = options.binarisation or (
        "threshold" if options.data == "digits" and not options.preprocessing else "none"
    )
    source, kept = {"binarisation": binarisation, "seed": seed_of_data(options)}, kept_by(options)
    source |= {name: value for name in ("preprocessing", "classes", "labels") if (value := getattr(options, name))}
    if kept is None:
        source["source"] = data.located(options.data, options.data_dir)
        dataset, _ = load(source, options.data_dir)
    else:
        dataset, _ = load(kept[1] | source | {"seed": kept[1]["seed"]}, options.data_dir, kept[0])
    out = options.out or f"runs/{cls.__name__.lower()}"
    sizes = ", ".join(f"{len(getattr(dataset, part))} {name}" for part, name in NAMES.items())
    print(f"rows: {sizes}")

    def make() -> tuple[Any, Any]:
        labels = options.classes or 0
        model = registry.build(options.model, chosen, dataset.visible, options.seed, dataset.sizes, labels)
        return model, registry.criterion(model, of_objective, dataset.visible)

    settings = {
        "epochs": options.epochs, "batch_size": options.batch_size, "learning_rate": options.learning_rate,
        "optimiser": options.optimiser, "decay": options.decay, "average": options.average, "patience": options.patience,
        "keep": options.keep, "seed": options.seed, "clip": options.clip, "precision": options.precision or "float32",
        **options_of_torch(options),
    }  # fmt: skip
    if options.tune is not None:
        settings |= _tuned(options, make, dataset, out)
    model, objective = make()
    run = train.fit(
        model,
        dataset,
        objective=objective,
        **settings,
        out=out,
        resume=options.resume,
        device=options.device,
        devices=options.devices,
        logger=logger,
        callbacks=[_own(name, "callback") for name in options.callback],
        progress=not options.quiet,
        source=source if kept is None else None,
    )
    if run.history:
        print(last_line(run.history[-1]))
    if run.epoch < len(run.history):
        print(f"weights of epoch {run.epoch} of {len(run.history)}, the best one")
    if run.history and can_draw():
        from ..evaluation import pictures

        folder = Path(out) if processes.first() else scratch()
        pictures.training_curve(run.history, path=folder / "training.png")
    print(f"run written to {out}")


def _own(name: str, what: str) -> Any:
    """An object of a user's file: a class is called without arguments."""
    found = registry.from_file(name, what)
    return found() if isinstance(found, type) else found


def _tuned(options: Namespace, make: Any, dataset: Any, out: str) -> dict[str, Any]:
    """The settings that a search by validation rows found; its trials are printed."""
    if options.resume or options.devices not in (None, 1) or processes.several():
        raise ValueError(
            "--tune searches in one process and from the beginning; leave --resume and --devices out (a run that it began is "
            "resumed without --tune, with the settings in its config.json)"
        )
    chosen = {"--decay": options.decay, "--decay-option": options.decay_option, "--patience": options.patience}
    if given := [name for name, value in chosen.items() if value]:
        raise ValueError(f"--tune chooses how step sizes fall and when training ends; leave {' and '.join(given)} out")
    if Path(out).exists() and any(Path(out).iterdir()):
        raise ValueError(f"{out} is not empty; name another folder by --out before the search begins")
    from ..train.tune import tune

    found = tune(
        make, dataset, minutes=options.tune, seed=options.seed, optimiser=options.optimiser, average=options.average,
        device=options.device, clip=options.clip, precision=options.precision or "float32",
        optimiser_options=options_of_torch(options)["optimiser_options"],
    )  # fmt: skip
    for trial in found.trials:
        print(
            f"learning rate {trial.learning_rate:g}, batches of {trial.batch_size}, {trial.epochs} epochs: "
            f"{trial.figure:.4g} on validation rows ({trial.seconds:.1f} s)"
        )
    return {name: value for name, value in found.settings.items() if name != "device"}


def evaluate(options: Namespace) -> None:
    """Print the log-likelihood of a run."""
    opened = open_run(options)
    dataset = opened.dataset
    split = getattr(dataset, options.split) if options.data is None else other_rows(options.data, options, opened)
    if options.data is None and options.split == "train" and dataset.redraw is not None:
        raise ValueError("the training rows are drawn anew in every batch; evaluate --split valid or test")
    stated = of_method(opened.model, options)
    for name in ("orders", "engine"):
        if value := getattr(options, name):
            if name in stated:
                raise ValueError(f"--{name} and --method-option {name}=... say the same; leave one out")
            stated[name] = value
    with progress.shown(not options.quiet):
        figure, details = likelihood(opened, split.to(options.device), options.method, **stated)
    if options.json:
        print_json(figure.as_dict() | {"details": {k: v for k, v in details.items() if math.isfinite(v)}})
        return
    print(figure)
    if figure.n == 1:
        print("  nats a row, of one row alone: how much rows differ is not known")
    else:
        error = f"{figure.stderr_data:.2g}"
        print(f"  nats a row, the mean of {figure.n} rows; standard error from the choice of rows: {error}")
    bounds = ("lower", "upper", "stderr") if figure.kind == "exact" else ()
    print_details({name: value for name, value in details.items() if not name.endswith(bounds)})


def sample(options: Namespace) -> None:
    """Draw samples; save them and pictures."""
    opened = open_run(options)
    check_place(opened, "samples", options.format)
    with progress.shown(not options.quiet):
        x = _samples(opened, options).cpu()
    write_npz(opened.folder / "samples.npz", x=x.numpy())
    drawn = f"{len(x)} samples{'' if options.label is None else f' of class {options.label}'} in {opened.folder / 'samples.npz'}"
    drawn += also(write_rows(opened, "samples", x, options.format))
    if opened.is_picture and can_draw():
        _sample_pictures(opened, x)
        drawn += "; pictures beside it"
    print(drawn)


def _samples(opened: Opened, options: Namespace) -> Tensor:
    """Rows of the model; with ``--label`` given the label."""
    model = opened.model
    if options.label is None:
        return model.sample(options.n)
    if options.label >= opened.classes:
        has = f"classes 0 to {opened.classes - 1}" if opened.classes else "no labels: it was trained without --classes"
        raise ValueError(f"--label got {options.label}, but the run has {has}")
    label = torch.nn.functional.one_hot(torch.tensor(options.label), opened.classes)
    wide = opened.dataset.visible - opened.classes
    row = torch.cat([torch.zeros(wide), label]).to(next(model.parameters()))
    known = opened.known(torch.zeros(wide, dtype=torch.bool, device=row.device))
    return model.condition(row.expand(options.n, -1).clone(), known, draws=1)[0]


def _sample_pictures(opened: Opened, x: Tensor) -> None:
    """Pictures of samples beside data, of filters, and of the manifold of two latents."""
    from ..evaluation import pictures

    model, shape, folder = opened.model, opened.shape, opened.folder
    shown = opened.pixels(x[:SHOWN_SAMPLES]), opened.pixels(opened.dataset.test.x[:SHOWN_SAMPLES])
    pictures.samples_and_data(
        opened.grey(shown[0]),
        opened.grey(shown[1]).nan_to_num(0.5),
        shape,
        type(model).__name__,
        path=folder / "samples.png",
    )
    weight = getattr(model, "weight", None)
    if isinstance(weight, Tensor) and weight.dim() == 2 and len(weight) == math.prod(shape):
        pictures.filters(weight.detach().cpu(), shape, path=folder / "filters.png")
    if width_of_codes(model) == 2:
        like, prior = next(model.parameters()), getattr(model, "prior", "normal")
        pictures.latent_manifold(
            lambda z: opened.grey(model.decode(z.to(like))), shape, path=folder / "manifold.png", prior=prior
        )


def impute(options: Namespace) -> None:
    """Fill in the unknown columns of test rows, or the holes in rows of a file; save them and a picture."""
    opened = open_run(options)
    check_place(opened, "imputed", options.format)
    x, known, labels = partly_known_rows(opened, options)
    with progress.shown(not options.quiet):
        means, details = opened.model.impute_with_details(x, known, draws=options.draws)
    file = opened.folder / "imputed.npz"
    write_npz(file, x=x.cpu().numpy(), known=known.cpu().numpy(), means=means.cpu().numpy(), **details)
    written = also(write_rows(opened, "imputed", means.cpu(), options.format, labels=labels))
    if opened.is_picture and can_draw():
        imputed_picture(opened, x, known, means, options.rows is None, path=opened.folder / "imputed.png")
    print(f"{len(x)} rows with {_unknown(opened, known)} imputed in {file}{written}")
    print_details(details)


def condition(options: Namespace) -> None:
    """Draw the unknown columns of test rows, or the holes in rows of a file, given the known ones; save the draws."""
    from ..evaluation.conditioning import condition_with_details

    opened = open_run(options)
    check_place(opened, "conditioned", options.format)
    x, known, labels = partly_known_rows(opened, options)
    with progress.shown(not options.quiet):
        drawn, details = condition_with_details(opened.model, x, known, draws=options.draws, warmup=options.warmup)
    drawn = drawn.cpu()
    file = opened.folder / "conditioned.npz"
    write_npz(file, x=x.cpu().numpy(), known=known.cpu().numpy(), draws=drawn.numpy())
    # Draws of one row stand together.
    rows = drawn.transpose(0, 1).flatten(0, 1)
    places = {
        "row": torch.arange(len(x)).repeat_interleave(options.draws).tolist(),
        "draw": torch.arange(options.draws).repeat(len(x)).tolist(),
    }
    labels = None if labels is None else labels.repeat_interleave(options.draws, 0)
    written = also(write_rows(opened, "conditioned", rows, options.format, places, labels))
    print(f"{options.draws} draws of {len(x)} rows with {_unknown(opened, known)} in {file}{written}")
    print_details(details)


def _unknown(opened: Opened, known: Tensor) -> str:
    """How much of the rows is unknown, in words."""
    wide = opened.dataset.visible - opened.classes
    if known.dim() > 1:
        return f"{int((~known).sum())} unknown values"
    label = "" if bool(known[wide:].all()) else " and the label"
    return f"{int((~known[:wide]).sum())} of {wide} columns{label}"


def diagnose(options: Namespace) -> None:
    """Run chains (or draw latents) and print ArviZ's summary; save the draws and a picture."""
    need("diagnose", "arviz")
    import arviz
    import numpy

    from ..evaluation import pictures, to_arviz

    opened = open_run(options)
    model, dataset, folder = opened.model, opened.dataset, opened.folder
    with progress.shown(not options.quiet):
        if "chains" in model.abilities():
            chains, warmup = options.chains or 20, 500 if options.warmup is None else options.warmup
            idata = to_arviz(model.chains(options.draws, warmup, chains, options.engine or "auto"))
            if can_draw():
                pictures.energy_trace(idata, path=folder / "energies.png")
        else:
            for flag, value in (("--engine", options.engine), ("--warmup", options.warmup)):
                if value is not None and "posterior_draws" in model.abilities():
                    raise ValueError(
                        f"{flag} got {value!r}, but {type(model).__name__} has no chains to run; leave it out"
                    )
            x = dataset.test.x[:LATENT_ROWS].to(options.device)
            idata = to_arviz(model, x[:10], num_samples=options.draws, num_chains=options.chains or 4)
            if hasattr(model, "guide"):
                print_latents(model, x, folder)
    with wide_tables(), numpy.errstate(divide="ignore", invalid="ignore"):  # of units that never change
        table = arviz.summary(idata)
        print(table)
    if still := int((table["sd"] == 0).sum()):
        print(f"{still} of {len(table)} never changed, and have no effective sample size and r_hat")
    write_idata(folder / "chains.nc", idata)
    print(f"draws in {folder / 'chains.nc'}")


SHOWN_SAMPLES = 100
"""The most samples that the picture of ``sample`` shows."""

LATENT_ROWS = 500
"""The most test rows whose latents ``diagnose`` examines."""


def reproduce(options: Namespace) -> None:
    """Train and evaluate a recipe; write its result file."""
    shared = {"data_dir": options.data_dir, "fast": options.fast, "resume": options.resume}
    result = recipes.reproduce(options.name, Path(options.out), seed=options.seed, **shared)
    print(result["text"])
    print(f"result in {Path(options.out) / recipes.folder_of(options.name, options.seed, options.fast)}")


DEMO_EPOCHS = 60
"""Epochs that the machine of ``demo`` is trained for."""


def demo(options: Namespace) -> None:
    """Take an RBM on digits from data to evidence: fit, evaluate, sample, impute, diagnose."""
    out = str(Path(options.out))
    training = (
        f"--set hidden=200 --epochs {DEMO_EPOCHS} --batch-size 20 --optimiser sgd --learning-rate 0.05 --decay linear "
        "--objective centred=true"
    )
    arguments = ["fit", "rbm", "--data", "digits", "--out", out, "--seed", str(options.seed), *training.split()]
    fit(parser().parse_args(arguments))
    for command in (evaluate, sample, impute, diagnose):
        print()
        try:
            command(parser().parse_args([command.__name__, out, "--seed", str(options.seed)]))
        except MissingExtra as error:
            print(f"left out: {error}")
