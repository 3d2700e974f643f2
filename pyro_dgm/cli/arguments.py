"""What can be asked on the command line, and what is printed."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Sequence
from typing import Any


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from .. import __version__

    top = argparse.ArgumentParser(prog="pyro-dgm", description="Deep generative models for Pyro.")
    top.add_argument("--version", action="version", version=f"pyro-dgm {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--data-dir", help="folder of the data files (default: $PYRO_DGM_DATA)")
        return sub

    listing = command("list", "list models, datasets and recipes")
    listing.add_argument("--json", action="store_true", help="print JSON")

    fitting = command("fit", "train a model and write a run")
    fitting.add_argument("model", help="a name from `pyro-dgm list`, or path/to/file.py:Class for one of your own")
    fitting.add_argument("--data", default="digits", help="a dataset's name, or a path ending in .npz")
    fitting.add_argument("--binarisation", help="threshold, fixed or stochastic (digits: threshold by default)")
    fitting.add_argument("--classes", type=int, help="append labels of so many classes, for models that take classes=")
    fitting.add_argument("--preprocessing", help="standardised, whitened or zca: real numbers, not grey levels")
    fitting.add_argument("--out", help="folder of the run (default: runs/MODEL)")
    fitting.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a model option, hidden=500")
    fitting.add_argument("--objective", action="append", default=[], metavar="NAME=VALUE", help="kind=cd, k=5")
    fitting.add_argument("--epochs", type=int, default=10)
    fitting.add_argument("--batch-size", type=int, default=100)
    fitting.add_argument("--learning-rate", type=float, default=1e-3)
    fitting.add_argument("--optimiser", default="adam", help="adam, adamw or sgd")
    fitting.add_argument("--decay", help="linear: let the step size fall to zero")
    fitting.add_argument("--average", type=float, help="moving average of the weights, such as 0.999")
    fitting.add_argument("--patience", type=int, help="epochs without improvement before stopping")
    fitting.add_argument(
        "--keep", default="last", choices=["last", "best"], help="whose weights: the last epoch's or the best's"
    )
    fitting.add_argument("--logger", default="csv", help="csv or tensorboard")
    fitting.add_argument("--resume", action="store_true", help="go on with the run in --out")
    fitting.add_argument("--quiet", action="store_true", help="no progress bar")

    evaluating = command("evaluate", "the log-likelihood of a run on its test rows")
    evaluating.add_argument("--json", action="store_true", help="print the fields of LogLikelihood")
    evaluating.add_argument("--split", default="test", choices=["train", "valid", "test"])
    evaluating.add_argument("--method", help="exact, ais, bridge, raise or importance")
    evaluating.add_argument(
        "--orders",
        type=int,
        nargs="+",
        metavar="N",
        help="of orderless models: average so many orders; the last N is the figure",
    )

    sampling = command("sample", "draw samples and save them with a picture")
    sampling.add_argument("-n", type=int, default=100, help="how many")

    imputing = command("impute", "fill in the lower half of test rows, or the holes in rows of your own")
    imputing.add_argument("--rows", metavar="FILE", help="rows of your own, .npy, with NaN where a value is unknown")
    imputing.add_argument("-n", type=int, default=10, help="how many rows")
    imputing.add_argument(
        "--known", type=float, default=0.5, help="share of the columns, from the first, that is known"
    )
    imputing.add_argument("--sweeps", type=int, default=500)

    diagnosing = command("diagnose", "run chains and print ArviZ diagnostics")
    diagnosing.add_argument("--chains", type=int, default=20)
    diagnosing.add_argument("--draws", type=int, default=500)
    diagnosing.add_argument("--warmup", type=int, default=500)

    for sub in (evaluating, diagnosing):
        sub.add_argument("--engine", help="of Boltzmann machines: torch (the default), compiled (the fastest) or jax")

    for sub in (evaluating, sampling, imputing, diagnosing):
        sub.add_argument("run", help="the folder of a run")
        sub.add_argument("--model", metavar="FILE.py:CLASS", help="the run's model, where it is one of your own")
    showing = command("demo", "an RBM on digits from data to evidence: fit, evaluate, sample, impute, diagnose")
    showing.add_argument("--out", default="runs/demo", help="folder of the run")
    reproducing = command("reproduce", "train and evaluate a recorded recipe and write its result file")
    reproducing.add_argument("name", help="a recipe from `pyro-dgm list`")
    reproducing.add_argument("--out", default="runs", help="folder for the run")
    reproducing.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    reproducing.add_argument(
        "--fast", action="store_true", help="a few steps only, to try the recipe; writes no result"
    )
    fitting.add_argument("--devices", type=int, help="processes that train together (default: one, or torchrun's)")
    for sub in (fitting, evaluating, sampling, imputing, diagnosing, showing, reproducing):
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    return top


def settings(pairs: Sequence[str], flag: str = "--set") -> dict[str, Any]:
    """``NAME=VALUE`` pairs as keyword arguments; values are Python literals, or else text.

    Raises:
        ValueError: a setting without ``=``, or named twice.

    Example:
        >>> settings(["hidden=(200,200)", "output=gaussian"])
        {'hidden': (200, 200), 'output': 'gaussian'}
    """
    found: dict[str, Any] = {}
    for setting in pairs:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"{flag} got {setting!r}; expected NAME=VALUE, as in --set hidden=500")
        if name in found:
            raise ValueError(f"{flag} names {name!r} twice; keep one")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def print_json(content: Any) -> None:
    """Print JSON without NaN or infinities."""
    print(json.dumps(content, indent=2, allow_nan=False))
