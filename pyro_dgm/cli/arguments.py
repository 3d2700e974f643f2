"""The arguments of the command line, and the forms in which values are read and results are printed."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Callable, Sequence
from typing import Any

Adder = Callable[[str, str], argparse.ArgumentParser]
"""Adds a command, given its name and its description, and returns the parser of its arguments."""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; options are accepted in full only, never abbreviated."""
    from .. import __version__

    top = argparse.ArgumentParser(prog="pyro-dgm", description="Deep generative models for Pyro.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"pyro-dgm {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    _add_list(add)
    _add_fit(add)
    _add_commands_on_runs(add)
    _add_demo_and_recipes(add)
    return top


def _add_list(add: Adder) -> None:
    """``list``."""
    option = add("list", "list models, datasets and recipes").add_argument
    option("--json", action="store_true", help="print JSON")


def _add_fit(add: Adder) -> None:
    """``fit``."""
    command = add("fit", "train a model and write a run")
    option = command.add_argument
    option("model", help="a name from `pyro-dgm list`, or path/to/file.py:Class for one of your own")
    option("--data", default="digits", help="a dataset's name, or a path ending in .npz (default: %(default)s)")
    option("--binarisation", help="threshold, fixed, stochastic or none (default: threshold for digits, else none)")
    option("--classes", type=int, help="number of classes whose labels are appended, for models that take classes=")
    option("--preprocessing", help="standardised, whitened or zca: real numbers instead of grey levels (default: none)")
    option("--out", help="folder of the run (default: runs/MODEL)")
    option("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the model, as hidden=500")
    option("--objective", action="append", default=[], metavar="NAME=VALUE", help="one of the objective, as kind=cd")
    option("--epochs", type=int, default=10, help="passes over the training rows (default: %(default)s)")
    option("--batch-size", type=int, default=100, help="rows per step (default: %(default)s)")
    option("--learning-rate", type=float, default=1e-3, help="the first step size (default: %(default)s)")
    option("--optimiser", default="adam", help="adam, adamw or sgd (default: %(default)s)")
    option("--decay", help="linear: let the step size fall to zero (default: no decay)")
    option("--average", type=float, help="decay of a moving average of the weights, as 0.999 (default: no average)")
    option("--patience", type=int, help="epochs without improvement before stopping (default: never stop early)")
    option("--keep", default="last", choices=["last", "best"], help="epoch whose weights stay (default: %(default)s)")
    option("--logger", default="csv", help="csv or tensorboard (default: %(default)s)")
    option("--resume", action="store_true", help="go on with the run in --out")
    option("--quiet", action="store_true", help="no progress bar")
    option("--devices", type=int, help="number of processes that train together (default: one, or torchrun's)")
    _add_data_and_device(command)


def _add_commands_on_runs(add: Adder) -> None:
    """``evaluate``, ``sample``, ``impute`` and ``diagnose``, which take the folder of a run."""
    evaluate = add("evaluate", "the log-likelihood of a run on its test rows")
    option = evaluate.add_argument
    option("--json", action="store_true", help="print the fields of LogLikelihood")
    option("--split", default="test", choices=["train", "valid", "test"], help="the rows (default: %(default)s)")
    option("--method", help="exact, ais, bridge, raise or importance (default: the best for the model)")
    option("--orders", type=int, nargs="+", metavar="N", help="orders to average (orderless); the last N is the figure")

    sample = add("sample", "draw samples and save them with a picture")
    option = sample.add_argument
    option("-n", type=int, default=100, help="number of samples (default: %(default)s)")

    impute = add("impute", "fill in the lower half of test rows, or the holes in rows of your own")
    option = impute.add_argument
    option("--rows", metavar="FILE", help="rows of your own, .npy, with NaN where a value is unknown")
    option("-n", type=int, help="number of test rows (default: 10)")
    option("--known", type=float, help="share of the test rows' columns, from the first, that is known (default: 0.5)")
    option("--draws", type=int, default=500, help="draws or particles that are averaged (default: %(default)s)")

    diagnose = add("diagnose", "run chains and print ArviZ diagnostics")
    option = diagnose.add_argument
    option("--chains", type=int, help="number of chains (default: 20), or of sets of draws of latents (default: 4)")
    option("--draws", type=int, default=500, help="draws per chain (default: %(default)s)")
    option("--warmup", type=int, help="steps of the chains before the first draw (default: 500)")

    for command in (evaluate, diagnose):
        command.add_argument("--engine", help="for Boltzmann machines: torch (default), compiled (fastest) or jax")
    for command in (evaluate, sample, impute, diagnose):
        command.add_argument("run", help="the folder of a run")
        command.add_argument("--model", metavar="FILE.py:CLASS", help="the run's model, where it is one of your own")
        _add_data_and_device(command)


def _add_demo_and_recipes(add: Adder) -> None:
    """``demo`` and ``reproduce``."""
    demo = add("demo", "an RBM on digits from data to evidence: fit, evaluate, sample, impute, diagnose")
    demo.add_argument("--out", default="runs/demo", help="folder of the run (default: %(default)s)")
    _add_seed(demo)

    reproduce = add("reproduce", "train and evaluate a recorded recipe and write its result file")
    option = reproduce.add_argument
    option("name", help="a recipe from `pyro-dgm list`")
    option("--out", default="runs", help="folder in which the run is made (default: %(default)s)")
    option("--resume", action="store_true", help="go on with an interrupted run")
    option("--fast", action="store_true", help="a few steps only, to try the recipe; the result says so")
    _add_data(reproduce)


def _add_seed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default: %(default)s)")


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-dir", help="folder of the data files (default: $PYRO_DGM_DATA)")


def _add_data_and_device(command: argparse.ArgumentParser) -> None:
    _add_data(command)
    _add_seed(command)
    command.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")


def settings(pairs: Sequence[str], flag: str = "--set") -> dict[str, Any]:
    """``NAME=VALUE`` pairs as keyword arguments; values are Python literals, or else text.

    Raises:
        ValueError: a setting without ``=``, or named twice.

    Example:
        >>> settings(["hidden=(200,200)", "output=gaussian"])
        {'hidden': (200, 200), 'output': 'gaussian'}
    """
    values: dict[str, Any] = {}
    for setting in pairs:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"{flag} got {setting!r}; expected NAME=VALUE, as in --set hidden=500")
        if name in values:
            raise ValueError(f"{flag} names {name!r} twice; keep one")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


def print_json(content: Any) -> None:
    """Print JSON without NaN or infinities."""
    print(json.dumps(content, indent=2, allow_nan=False))
