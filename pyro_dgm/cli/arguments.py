"""The arguments of the command line."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

Adder = Callable[..., argparse.ArgumentParser]
"""Adds a command, given its name and its description, and returns the parser of its arguments."""

ROWS = "a dataset, .npz, .npy, .csv, .parquet, or a folder of pictures"

FORMATS = ("npy", "csv", "parquet", "png")
"""The formats in which rows are written, apart from npz."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all errors of the command are."""

    words: Sequence[str] = ()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.words = sys.argv[1:] if args is None else list(args)
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        said = re.sub(r"^argument ([^:]*): got", r"\1 got", message)
        unknown = re.match(r"unrecognized arguments: --([a-z_-]+)[ =]([^\s-]\S*)", said)
        if unknown and self.words[:1] == ["fit"]:
            name, value = unknown[1].replace("-", "_"), unknown[2]
            said += f"; options of the model go by --set, those of its objective by --objective: --set {name}={value}"
        elif re.match(r"unrecognized arguments: \w[\w-]*=", said):
            said += "; an option takes one NAME=VALUE, so repeat it: --set a=1 --set b=2"
        raise ValueError(f"{said} (see {self.prog} --help)")


def parser(stored: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line; options are accepted in full only, never abbreviated.

    Args:
        stored: values of arguments of ``fit`` that stand for its defaults, as a configuration file has them.
    """
    from .. import __version__

    top = Parser(prog="pyro-dgm", description="Deep generative models for Pyro.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"pyro-dgm {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, **options: Any) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False, **options)

    _add_list(add)
    _add_fit(add, stored or {})
    _add_commands_on_runs(add)
    _add_demo_and_recipes(add)
    return top


def whole(least: int) -> Callable[[str], int]:
    """The reading of an option that is a whole number of at least ``least``, and of at most 63 bits."""

    def read(text: str) -> int:
        value = int(text) if text.strip().lstrip("+-").isdecimal() and len(text) < 30 else None
        if value is None or not least <= value < 2**63:
            raise argparse.ArgumentTypeError(f"got {text[:40]}; expected a whole number of at least {least}")
        return value

    return read


def seed(text: str) -> int:
    """The reading of ``--seed``."""
    value = whole(0)(text)
    if value >= 2**32:
        raise argparse.ArgumentTypeError(f"got {text}; expected a whole number from 0 to {2**32 - 1}")
    return value


def real(low: float, high: float, what: str) -> Callable[[str], float]:
    """The reading of an option that is a number between two others, which are left out."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"got {text[:40]}; expected {what}")
        return value

    return read


class ModelHelp(argparse.Action):
    """``--help``, which after the name of a model tells that model's options too."""

    def __init__(self, option_strings: Any, dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        parser.print_help()
        if getattr(namespace, "model", None):
            from .explain import model_help

            try:
                print(f"\n{model_help(namespace.model)}")
            except ValueError as error:
                parser.error(str(error))
        parser.exit()


def _add_list(add: Adder) -> None:
    """``list``."""
    option = add("list", "list models, datasets and recipes").add_argument
    option("--json", action="store_true", help="print JSON")


def _add_fit(add: Adder, stored: Mapping[str, Any]) -> None:
    """``fit``."""
    command = add("fit", "train a model and write a run", add_help=False)
    option = command.add_argument
    option("model", nargs="?", help="a name from `pyro-dgm list`, or path/to/file.py:Class for one of your own")
    option("-h", "--help", action=ModelHelp, help="show this; after a model's name (fit rbm --help) its options too")
    option(
        "--config",
        metavar="FILE",
        help="a run's config.json, or its folder: repeat the run, but for what is given here",
    )
    option(
        "--data",
        default="digits",
        help="a dataset's name, a path ending in .npz, .npy, .csv or .parquet, or a folder of pictures (default: %(default)s)",
    )
    option("--binarisation", help="threshold, fixed, stochastic or none (default: threshold for digits, else none)")
    option("--classes", type=whole(2), help="number of classes whose labels are appended (default: no labels)")
    option("--labels", metavar="COLUMN", help="the column of a .csv or .parquet file that holds labels (default: none)")
    option("--preprocessing", help="standardised, whitened or zca: real numbers instead of grey levels (default: none)")
    option("--out", help="folder of the run (default: runs/MODEL)")
    option("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the model, as hidden=500")
    option("--objective", action="append", default=[], metavar="NAME=VALUE", help="one of the objective, as kind=cd")
    option("--epochs", type=whole(1), default=10, help="passes over the training rows (default: %(default)s)")
    option("--batch-size", type=whole(1), default=100, help="rows per step (default: %(default)s)")
    rate = real(0, math.inf, "a number above 0")
    option("--learning-rate", type=rate, default=1e-3, help="the first step size (default: %(default)s)")
    option("--optimiser", default="adam", help="adam, adamw or sgd (default: %(default)s)")
    option(
        "--decay", help="linear: let the step size fall to zero; or a schedule of torch, as StepLR (default: no decay)"
    )
    pairs: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    option("--decay-option", help="an argument of that schedule, as gamma=0.5", **pairs)
    option("--optimiser-option", help="an argument of the optimiser, as weight_decay=1e-4", **pairs)
    option("--clip", type=rate, metavar="NORM", help="the largest norm of a step's gradients (default: any)")
    option("--precision", help="bfloat16: products of networks in half precision (default: float32)")
    share = real(0, 1, "a number between 0 and 1")
    option("--average", type=share, help="decay of a moving average of the weights, as 0.999 (default: no average)")
    option("--patience", type=whole(1), help="epochs without improvement before stopping (default: never stop early)")
    option("--keep", default="last", choices=["last", "best"], help="epoch whose weights stay (default: %(default)s)")
    minutes = real(0, math.inf, "a number of minutes above 0")
    option(
        "--tune",
        type=minutes,
        metavar="MINUTES",
        help="choose learning rate, batch size and epochs by validation rows, and train, in about so many minutes",
    )
    option("--logger", default="csv", help="csv, tensorboard, or FILE.py:NAME for one of yours (default: %(default)s)")
    option(
        "--callback",
        action="append",
        default=[],
        metavar="FILE.py:NAME",
        help="a function or a dgm.Callback of yours, called at every epoch's end",
    )
    option("--resume", action="store_true", help="go on with the run in --out")
    option("--quiet", action="store_true", help="no progress bar, and no lines of progress in a file")
    option("--devices", type=whole(1), help="number of processes that train together (default: one, or torchrun's)")
    _add_data_and_device(command)
    command.set_defaults(**stored)


def _add_commands_on_runs(add: Adder) -> None:
    """``evaluate``, ``sample`` and the others, which take the folder of a run."""
    evaluate = add("evaluate", "the log-likelihood of a run on its test rows, or on other rows")
    option = evaluate.add_argument
    option("--json", action="store_true", help="print the fields of LogLikelihood")
    option("--split", default="test", choices=["train", "valid", "test"], help="the rows (default: %(default)s)")
    option("--data", metavar="DATA", help=f"other rows: {ROWS} (default: the run's data)")
    option("--method", help="exact, ais, bridge, raise or importance (default: the best for the model)")
    _add_method_option(evaluate)
    option(
        "--orders",
        type=whole(1),
        nargs="+",
        metavar="N",
        help="orders to average (orderless); the last N is the figure",
    )

    sample = add("sample", "draw samples and save them with a picture")
    option = sample.add_argument
    option("-n", type=whole(1), default=100, help="number of samples (default: %(default)s)")
    option("--label", type=whole(0), help="class of the samples, from 0, of a run with --classes (default: drawn)")

    impute = add("impute", "fill in the lower half of test rows, or the holes in rows of your own, by their means")
    option = impute.add_argument
    option("--draws", type=whole(2), default=500, help="draws or particles that are averaged (default: %(default)s)")

    condition = add("condition", "draw the unknown columns of test rows, or the holes in rows of your own")
    option = condition.add_argument
    option("--draws", type=whole(1), default=10, help="draws of every row (default: %(default)s)")
    option("--warmup", type=whole(1), help="steps of a chain before the first draw (default: 500)")
    for command in (impute, condition):
        option = command.add_argument
        option(
            "--rows",
            metavar="FILE",
            help="rows of your own, in a file as --data takes them, with NaN or nothing where a value is unknown",
        )
        option("-n", type=whole(1), help="number of test rows (default: 10)")
        option(
            "--known",
            action="append",
            metavar="SHARE|COLUMN",
            help="share of the test rows' columns, from the first, that is known (default: 0.5), or a known column of a table by "
            "its name; repeat it for more",
        )
    for command in (sample, impute, condition):
        command.add_argument(
            "--format",
            choices=FORMATS,
            help="of the rows, written beside the .npz file (default: that of the run's data)",
        )

    rank = add("rank", "rank rows by how strange they are to a run; with known anomalies, tell how well they are found")
    option = rank.add_argument
    option("--json", action="store_true", help="print JSON")
    option("--rows", metavar="DATA", required=True, help=f"the rows: {ROWS}")
    option("--split", default="test", choices=["train", "valid", "test"], help="its rows (default: %(default)s)")
    option(
        "--anomalies",
        type=whole(0),
        nargs="+",
        metavar="LABEL",
        help="rows with these labels are anomalies (labels of an npz's rows x are x_labels)",
    )
    option("--among-test", action="store_true", help="all rows are anomalies, among the run's test rows")
    option("--by", help="free energy, likelihood or reconstruction (default: the first that the model has)")
    option("--method", help="with --by likelihood: as for evaluate")
    _add_method_option(rank)
    option(
        "--first",
        type=whole(1),
        help="list so many of the strangest rows; where anomalies are known, take these for anomalies",
    )
    option("--threshold", type=real(-math.inf, math.inf, "a number"), help="the same of rows of this score or more")

    diagnose = add("diagnose", "run chains and print ArviZ diagnostics")
    option = diagnose.add_argument
    option(
        "--chains", type=whole(1), help="number of chains (default: 20), or of sets of draws of latents (default: 4)"
    )
    option("--draws", type=whole(4), default=500, help="draws per chain (default: %(default)s)")
    option("--warmup", type=whole(0), help="steps of the chains before the first draw (default: 500)")

    report = add("report", "write one page of HTML with all that can be said of a run")
    option = report.add_argument
    option("-n", type=whole(16), default=1000, help="number of samples that are judged (default: %(default)s)")
    option("--method", help="of the log-likelihood, as for evaluate")
    _add_method_option(report)
    option("--out", dest="page", metavar="FILE", type=Path, help="the page (default: report.html in the run's folder)")

    export = add(
        "export", "write the encoder, decoder and sampler as programs of plain torch, with a script that runs them"
    )
    option = export.add_argument
    option("--rows-at-once", type=whole(2), default=64, help="rows that a program takes (default: %(default)s)")
    option("--onnx", action="store_true", help="write ONNX files too (needs the extra onnx)")

    turing = add("turing", "write a page on which people judge which pictures are real, or score their answers")
    option = turing.add_argument
    option("-n", type=whole(1), default=40, help="number of pictures (default: %(default)s)")
    option("--answers", type=Path, nargs="+", metavar="FILE", help="score these answers, one file a judge")
    option("--key", type=Path, metavar="FILE", help="with --answers: the key (default: turing-key.json of the folder)")
    option("--json", action="store_true", help="with --answers: print JSON")

    for command in (evaluate, diagnose):
        command.add_argument(
            "--engine", help="for Boltzmann machines: auto (default), torch, compiled (fastest in long runs) or jax"
        )
    for command in (sample, impute, condition, rank, diagnose, export, turing):
        default = "the folder export of the run" if command is export else "the run's"
        command.add_argument("--out", type=Path, help=f"folder for what is written (default: {default})")
    for command in (evaluate, sample, impute, condition, rank, diagnose, export, report, turing):
        command.add_argument("run", help="the folder of a run")
        command.add_argument("--model", metavar="FILE.py:CLASS", help="the run's model, where it is one of your own")
        command.add_argument("--quiet", action="store_true", help="no progress bar, and no lines of progress in a file")
        _add_data_and_device(command)


def _add_method_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--method-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of that method, as particles=5000 or chains=200; a wrong name tells all",
    )


def _add_demo_and_recipes(add: Adder) -> None:
    """``demo`` and ``reproduce``."""
    demo = add("demo", "an RBM on digits from data to evidence: fit, evaluate, sample, impute, diagnose")
    demo.add_argument("--out", default="runs/demo", help="folder of the run (default: %(default)s)")
    _add_seed(demo)

    reproduce = add("reproduce", "train and evaluate a recorded recipe and write its result file")
    option = reproduce.add_argument
    option("name", help="a recipe from `pyro-dgm list`")
    option("--out", default="runs", help="folder in which the run is made (default: %(default)s)")
    option("--seed", type=seed, help="another seed of weights and training (default: the recipe's)")
    option("--resume", action="store_true", help="go on with an interrupted run")
    option("--fast", action="store_true", help="a few steps only, to try the recipe; the result says so")
    _add_data(reproduce)


def _add_seed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=seed, default=0, help="seed of the random numbers (default: %(default)s)")


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-dir", help="folder of the data files (default: $PYRO_DGM_DATA)")


def _add_data_and_device(command: argparse.ArgumentParser) -> None:
    _add_data(command)
    _add_seed(command)
    command.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")
