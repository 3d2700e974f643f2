"""``report``: one page of HTML that holds all that can be said of a run."""

from __future__ import annotations

import datetime
import json
import shlex
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import progress
from ..data.stored import StoredRows, spread_rows
from ..evaluation.pages import Page, code, facts, note, picture, table
from ..extras import MissingExtra, need
from ..files import write_atomically
from ..train.checkpoint import load_state, read_config
from .known import partly_known
from .parts import NAMES, imputed_picture, likelihood, of_method
from .repeat import stored_arguments
from .runs import Opened, open_run

SHOWN = 20
"""Samples and rows that pictures show."""

LATENT_ROWS = 500
"""Test rows whose latents are examined."""

CHAINS = {"draws": 300, "warmup": 200, "chains": 10}

IMPUTATION_DRAWS = 500

WIDTHS = torch.logspace(-3, 1, 37, dtype=torch.float64)
"""Widths of Parzen windows that are tried, over the root mean square of the columns' standard deviations."""

Section = Callable[[Opened, Namespace, Tensor], list[str]]


def report(options: Namespace) -> None:
    """Write the page."""
    need("report", "pictures")
    page_file = options.page or Path(options.run) / "report.html"
    opened = open_run(Namespace(**vars(options), out=page_file.parent))
    of_method(opened.model, options)
    config = read_config(options.run)
    page = Page(f"{type(opened.model).__name__} on {config['data'].get('name', 'data')}")
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    page.section("", note(f"{options.run}, {made}; random numbers from seed {options.seed}"))
    page.section("Run", facts(_about(opened, config)))
    with progress.shown(not options.quiet):
        drawn = opened.model.sample(options.n).cpu()
        missing = dict[str, str]()
        for heading, section in SECTIONS.items():
            parts, reason = _parts(section, opened, options, drawn)
            page.section(heading, *parts)
            if reason is not None:
                missing[heading] = reason
    target = opened.folder / page_file.name
    write_atomically(target, lambda file: file.write(page.html().encode()))
    print(f"report in {target}")
    for heading, reason in missing.items():
        print(f"  without {heading!r}: {reason}")


def _parts(section: Section, opened: Opened, options: Namespace, drawn: Tensor) -> tuple[list[str], str | None]:
    """A section's parts with its warnings, and the reason why it has none, if so."""
    reason = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            parts = section(opened, options, drawn)
        except (ValueError, NotImplementedError, MissingExtra) as error:
            reason = " ".join(str(error).split())
            parts = [note(f"Not available: {reason}")]
    told = dict.fromkeys(" ".join(str(entry.message).split()) for entry in caught if entry.category is UserWarning)
    return [*parts, *(note(text, warning=True) for text in told)], reason


def _about(opened: Opened, config: Mapping[str, Any]) -> dict[str, Any]:
    """What was trained on what."""
    parameters = sum(parameter.numel() for parameter in opened.model.parameters())
    rows, training = config["data"], config["training"]
    return {
        "model": ", ".join([config["model"], *(f"{name} {value}" for name, value in config["options"].items())]),
        "parameters": f"{parameters:,}",
        "objective": ", ".join(f"{name} {value}" for name, value in config["objective"].items()),
        "training": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in training.items() if value),
        "data": f"{rows.get('name')}, {rows.get('space')}",
        "rows": ", ".join(
            f"{count} {part}" for part, count in zip(NAMES.values(), rows.get("rows", ()), strict=False)
        ),
    }  # fmt: skip


def _likelihood(opened: Opened, options: Namespace, _: Tensor) -> list[str]:
    figure, details = likelihood(
        opened, opened.dataset.test.to(options.device), options.method, **of_method(opened.model, options)
    )
    stated = {name.replace("_", " "): value for name, value in figure.as_dict().items() if value is not None}
    more = {name.replace("_", " "): value for name, value in details.items()}
    return [code(str(figure)), facts(stated), facts(more) if more else ""]


def _samples(opened: Opened, _: Namespace, drawn: Tensor) -> list[str]:
    from ..evaluation import nearest_neighbours, pictures

    made, shape = opened.pixels(drawn[:SHOWN]), _picture_shape(opened)
    (train, test), said = _complete(opened, "train", "test")
    if min(len(train), len(test)) < 2:
        alone = pictures.sample_grid(opened.grey(made), shape, title="samples")
        return [picture(alone, "samples"), *said, note("Too few rows are complete to hold samples against them.")]
    found = nearest_neighbours(made, train, test, len(made))
    nearest = train[found.nearest]
    grid = pictures.samples_and_neighbours(opened.grey(made), opened.grey(nearest), shape, columns=10)
    data = pictures.sample_grid(opened.grey(test[:SHOWN]), shape, title="test rows")
    text = f"Distances of samples to their nearest training rows over those of test rows: {found.ratio:.2f} (medians)."
    return [
        picture(grid, "samples and the training rows nearest to them"),
        picture(data, "test rows"),
        note(text),
        *said,
    ]


def _complete(opened: Opened, *parts: str) -> tuple[list[Tensor], list[str]]:
    """The rows of splits without labels and without missing values (of rows that stay in their file some), and a note of them.

    Comparisons of whole rows need complete ones.
    """
    complete, counts = list[Tensor](), list[str]()
    for part in parts:
        x = getattr(opened.dataset, part).x
        rows = opened.pixels(spread_rows(x) if isinstance(x, StoredRows) else x)
        complete.append(rows[~rows.isnan().any(1)])
        if len(complete[-1]) < len(rows):
            counts.append(f"{len(complete[-1])} of {len(rows)} {NAMES[part]} rows")
    said = [note(f"Only rows without missing values are compared: {', '.join(counts)}.")] if counts else []
    return complete, said


def _picture_shape(opened: Opened) -> tuple[int, ...]:
    """The shape of pictures of rows: of rows that are no pictures, strips one pixel high."""
    columns = opened.dataset.visible - opened.classes
    return opened.shape if opened.is_picture else (1, columns)


def _against_data(opened: Opened, _: Namespace, drawn: Tensor) -> list[str]:
    from ..evaluation.samples import sample_summary

    (train, test), said = _complete(opened, "train", "test")
    _enough(train, test)
    found = sample_summary(opened.pixels(drawn), train, test, len(drawn))
    cells = [(figure.name, figure.samples, figure.training_rows, figure.meaning) for figure in found]
    return [table(["figure", "samples", "training rows in their place", "meaning"], cells), *said]


def _enough(*splits: Tensor) -> None:
    """Refuse splits of which fewer than two rows are complete."""
    if min(map(len, splits)) < 2:
        raise ValueError(f"too few rows without missing values ({' and '.join(str(len(rows)) for rows in splits)})")


def _parzen(opened: Opened, _: Namespace, drawn: Tensor) -> list[str]:
    from ..evaluation import parzen, parzen_references

    dataset = opened.dataset
    if dataset.test.space.support == "binary":
        raise ValueError(
            "windows around rows of bits tell nothing; look at the likelihood, or at the figures of samples"
        )
    made, ((train, test, valid), said) = opened.pixels(drawn), _complete(opened, "train", "test", "valid")
    _enough(train, test, valid)
    count, space = min(len(made), len(train)), str(dataset.test.space)
    widths = (float(train.std(0).square().mean().sqrt()) * WIDTHS).tolist()
    references = parzen_references(train, test, valid, count, widths, space)
    found = {"samples": parzen(made, test, valid, count, widths, space)} | references
    cells = [(name, figure.value, figure.stderr, figure.median, figure.width) for name, figure in found.items()]
    return [
        table(["windows around", "mean (nats)", "standard error", "median", "width"], cells),
        note(f"{count} windows; no likelihood of the model, and comparable for the same number of windows alone."),
        *said,
    ]


def _training(opened: Opened, options: Namespace, _: Tensor) -> list[str]:
    from ..evaluation import pictures

    history = load_state(options.run)["history"]
    return [picture(pictures.training_curve(history), "training")]


def _chains(opened: Opened, options: Namespace, _: Tensor) -> list[str]:
    from ..evaluation import pictures, to_arviz

    model = opened.model
    if "chains" not in model.abilities():
        return _latents(opened, options)
    need("the summary of chains", "arviz")
    import arviz

    idata = to_arviz(model.chains(**CHAINS))
    summary: Any = arviz.summary(idata)
    cells = [(name, *(float(value) for value in row)) for name, row in zip(summary.index, summary.values, strict=True)]
    return [
        picture(pictures.energy_trace(idata), f"{CHAINS['chains']} chains of {CHAINS['draws']} draws"),
        table(["", *summary.columns], cells),
    ]


def _latents(opened: Opened, options: Namespace) -> list[str]:
    from ..evaluation import active_units, kl_per_latent
    from ..evaluation.pictures import latent_bars

    model = opened.model
    if not hasattr(model, "guide") or "posterior_draws" not in model.abilities():
        raise ValueError(f"{type(model).__name__} has neither chains to run nor latent variables to examine")
    x = opened.dataset.test.x[:LATENT_ROWS].to(options.device)
    figure = latent_bars(kl_per_latent(model.model, model.guide, x), active_units(model.model, model.guide, x))
    return [picture(figure, f"latents of {len(x)} test rows"), note("No chains: latents are drawn from the guide.")]


def _imputation(opened: Opened, options: Namespace, _: Tensor) -> list[str]:
    x, known = partly_known(opened, options.device)[:2]
    means, details = opened.model.impute_with_details(x, known, draws=IMPUTATION_DRAWS)
    shown = [facts({name.replace("_", " "): value for name, value in details.items()})] if details else []
    if not opened.is_picture:
        hidden = ~known & ~x.isnan()
        if not bool(hidden.any()):
            return [note("The rows have no known values in the second half of their columns to compare with."), *shown]
        errors = (means - x)[hidden].square().mean().sqrt()
        text = f"Root mean squared error of the second half of the columns, over {int(hidden.sum())} known values"
        return [note(f"{text}: {float(errors):.4g}."), *shown]
    return [picture(imputed_picture(opened, x, known, means), "the lower half filled in"), *shown]


def _reconstructions(opened: Opened, options: Namespace, _: Tensor) -> list[str]:
    from ..evaluation import pictures

    test = spread_rows(opened.dataset.test.x)
    complete = ~test.isnan().any(1)
    x = test[complete][:SHOWN].to(options.device)
    if not len(x):
        raise ValueError("no test row is without missing values")
    with torch.no_grad():
        whole, means = (opened.grey(opened.pixels(part)) for part in (x, opened.model.reconstruct(x)))
    figure = pictures.reconstructions(whole, means, _picture_shape(opened))
    which = "test rows" if bool(complete.all()) else "test rows without missing values"
    return [picture(figure, f"{which} and their reconstructions")]


def _again(opened: Opened, options: Namespace, _: Tensor) -> list[str]:
    config = read_config(options.run)
    try:
        command = code(command_of(stored_arguments(options.run), options.run))
    except ValueError as error:
        command = note(f"No command: {error}")
    return [command, code(json.dumps(config, indent=2))]


STORED = {
    "stored_options": "--set", "stored_objective": "--objective",
    "stored_decay": "--decay-option", "stored_optimiser": "--optimiser-option",
}  # fmt: skip


def command_of(arguments: Mapping[str, Any], run: str) -> str:
    """The command line of ``fit`` with the arguments of a run, as ``stored_arguments`` finds them.

    Where one of them has no form on the command line (options of preprocessing, rows that a run from Python kept, a seed of the
    data alone), the run's configuration stands for all.

    Example:
        >>> command_of({"model": "rbm", "epochs": 3, "patience": None, "stored_options": {"hidden": 9}}, "runs/rbm")
        'pyro-dgm fit rbm --epochs 3 --set hidden=9'
    """
    if arguments.keys() & {"stored_rows", "stored_seed"}:
        return shlex.join(["pyro-dgm", "fit", "--config", str(run)])
    words = ["pyro-dgm", "fit", str(arguments.get("model", "FILE.py:CLASS"))]
    for name, value in arguments.items():
        if name.startswith("stored_"):
            pairs = value[1] if isinstance(value, tuple) else value
            words += [word for key, entry in pairs.items() for word in (STORED[name], f"{key}={entry}")]
        elif isinstance(value, Mapping):
            return shlex.join(["pyro-dgm", "fit", "--config", str(run)])
        elif name != "model" and value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


SECTIONS: dict[str, Section] = {
    "Log-likelihood of the test rows": _likelihood,
    "Samples": _samples,
    "Samples against test rows": _against_data,
    "Parzen windows": _parzen,
    "Training": _training,
    "Chains and latents": _chains,
    "Imputation": _imputation,
    "Reconstructions": _reconstructions,
    "To repeat it": _again,
}
"""The sections of the page by heading, in their order."""
