"""The arguments of what models can do, in whatever users have them: converted once, before a model's own method sees them."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...autoregressive.conditionals import check_known
from ...calls import bound
from ...checks import check_count, check_memory, check_rows
from ...data.precision import in_precision
from ...data.rows import as_booleans, as_rows
from ...data.stored import StoredRows
from ...native import out_of_autocast
from .blamed_rows import FAILURES, blame_rows

TAKE_ROWS = (
    "bound", "classifier_input", "complete", "condition", "condition_with_details", "conditional_log_prob", "evidence",
    "filled", "hidden_features", "impute", "impute_with_details", "log_partition", "posterior_draws", "predict_proba",
    "reconstruct",
)  # fmt: skip
"""Methods of models whose first argument, ``x`` or ``rows``, holds rows, and ``known`` (if they have it) booleans."""

PARTS = (
    "contraction", "decode", "detectors", "free_energy_exact", "inputs_given", "mean", "outputs_given", "pooled", "posterior",
    "residuals", "responsibilities", "sample", "score", "switches", "transform", "transformation",
)  # fmt: skip
"""Methods that show the parts of this package's models; their arguments, of any batch shape, are those of ``WIDTHS``."""

STEPS = ("column_log_probs", "column_terms", "encode", "label_scores", "pyramid", "rebuilding_cost", "scores")
"""Methods of this kind that training calls at every step: what they are given is looked at where they fail."""

WIDTHS: dict[str, Callable[[Any], Sequence[int]]] = {
    "x": lambda model: (model.visible, model.visible + (getattr(model, "classes", 0) or 0)),
    "given": lambda model: (model.inputs,),
    "outputs": lambda model: (model.visible - model.inputs,),
    "codes": lambda model: (model.codes,),
    "z": lambda model: (model.latent + (getattr(model, "classes", 0) or 0),),
    "h": lambda model: (model.hidden if isinstance(model.hidden, int) else model.hidden[-1],),
}
"""How many columns such arguments have, by their names: the first is what is expected."""

COUNTS = {"sweeps": "the sweeps of a chain", "steps": "the steps of a chain", "rounds": "the rounds of mean field"}
"""Arguments of these methods that count what may be nothing at all; None, where it is the default, stands for a number."""


def rows_for(model: Any, x: Any, name: str = "x") -> Tensor:
    """Rows in the precision and on the device of a model.

    Args:
        model: the model, or a program of one; of a program without parameters nothing is known, and rows stay as they are.
        x: rows, as ``data.rows.as_rows`` takes them.
        name: the name of the argument in messages.

    Raises:
        ValueError: no rows of real numbers; rows of a file that would fill the memory.
    """
    rows = as_rows(x, name)
    rows = rows.whole() if isinstance(rows, StoredRows) else rows
    like = next(model.parameters(), rows) if isinstance(model, nn.Module) else rows
    return in_precision(rows, like.dtype, name).to(like.device)


def convert_arguments(cls: type) -> None:
    """Let the methods of a model's class that take rows take arrays and tables too, and all that take numbers NumPy's."""
    if inspect.isfunction(method := vars(cls).get("__init__")):
        cls.__init__ = _converting(method, lambda *_: None)  # type: ignore[misc]
    for name in TAKE_ROWS:
        method = vars(cls).get(name)
        if (
            inspect.isfunction(method) and method.__module__ == cls.__module__
        ):  # what a base refuses is taken over as it is
            setattr(cls, name, _converting(method, _rows_and_booleans))
    for name in ("sample", "sample_means"):
        if inspect.isfunction(method := vars(cls).get(name)):
            setattr(cls, name, _converting(method, _count))
    if cls.__module__.partition(".")[0] == __name__.partition(".")[0]:  # elsewhere these names may mean anything
        for name in PARTS:
            if inspect.isfunction(method := vars(cls).get(name)):
                setattr(cls, name, _converting(method, _fitting(method)))
        for name in STEPS:
            if inspect.isfunction(method := vars(cls).get(name)) and "x" in inspect.signature(method).parameters:
                setattr(cls, name, _blaming(method))


def _converting(method: Callable[..., Any], convert: Callable[[Any, dict[str, Any]], None]) -> Callable[..., Any]:
    """The method behind a conversion of its arguments."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    @out_of_autocast
    def converting(*args: Any, **options: Any) -> Any:
        owner = type(args[0]).__name__ + ("" if method.__name__ == "__init__" else f".{method.__name__}")
        plain = {name: _plain(value) for name, value in options.items()}
        call = bound(signature, owner, map(_plain, args), plain, hidden=1)
        convert(args[0], call.arguments)
        if method.__name__ != "__init__":
            for name in COUNTS.keys() & call.arguments.keys():
                if call.arguments[name] is not None or signature.parameters[name].default is not None:
                    call.arguments[name] = check_count(name, call.arguments[name], 0, COUNTS[name])
        try:
            return method(*call.args, **call.kwargs)
        except (IndexError, RuntimeError, ZeroDivisionError) as error:
            _blame(args[0], call.arguments, error)
            raise

    return converting


def _blame(model: Any, arguments: dict[str, Any], error: Exception) -> None:
    """Raise an error that says what is wrong with the rows that a method failed on; return where nothing is."""
    if isinstance(rows := arguments.get("x"), Tensor):
        blame_rows(model, rows, error)


def _blaming(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, whose errors say what is wrong with the rows that it failed on."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def blaming(*args: Any, **options: Any) -> Any:
        try:
            return method(*args, **options)
        except FAILURES as error:
            owner = f"{type(args[0]).__name__}.{method.__name__}"
            given = bound(signature, owner, args, options, hidden=1).arguments
            if given["x"] is None and signature.parameters["x"].default is not None:
                raise ValueError(f"{owner} got None; expected a tensor of rows") from error
            blame_rows(args[0], given["x"], error)
            if "known" in given:
                check_known(given["x"], given["known"])
            raise

    return blaming


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python, also in a list or tuple; anything else as it is."""
    if type(value) in (list, tuple):
        return type(value)(_plain(entry) for entry in value)
    return value.item() if isinstance(value, np.generic) else value


def _rows_and_booleans(model: nn.Module, arguments: dict[str, Any]) -> None:
    first = next((name for name in itertools.islice(arguments, 1, 2) if name in ("x", "rows")), None)
    if first is not None:
        arguments[first] = rows = rows_for(model, arguments[first], first)
        if rows.dim() == 1 and "known" not in arguments:
            raise ValueError(
                f"{type(model).__name__} got {rows.numel()} numbers, as one row has; expected rows, as {first}.unsqueeze(0) has "
                "them"
            )
    if "known" in arguments:
        known = as_booleans(arguments["known"])
        arguments["known"] = known.to(arguments["x"].device) if isinstance(known, Tensor) else known


def _fitting(method: Callable[..., Any]) -> Callable[[Any, dict[str, Any]], None]:
    """The conversion of the rows and codes that a method takes, which fit the model and one another."""
    parameters = inspect.signature(method).parameters

    def fitting(model: nn.Module, arguments: dict[str, Any]) -> None:
        owner, batches = type(model).__name__, dict[str, torch.Size]()
        for name in (name for name in parameters if name in WIDTHS and name in arguments):
            if arguments[name] is None and parameters[name].default is None:
                continue
            arguments[name] = value = rows_for(model, arguments[name], name)
            widths = WIDTHS[name](model)
            width = next((width for width in widths if value.shape[-1:] == (width,)), widths[0])
            if value.shape[-1:] != (width,) or value.numel():
                whose = owner if name == "x" else f"{owner}: {name}"
                check_rows(value.flatten(0, -2) if value.dim() > 1 else value.unsqueeze(0), (width,), whose)
            batches[name] = value.shape[:-1]
        try:
            torch.broadcast_shapes(*batches.values())
        except RuntimeError:
            got = " and ".join(f"{name} of {tuple(batch)} rows" for name, batch in batches.items())
            raise ValueError(f"{owner}.{method.__name__} got {got}; expected as many of each, or one for all") from None

    return fitting


def _count(model: nn.Module, arguments: dict[str, Any]) -> None:
    arguments["n"] = check_count("n", arguments["n"], what="the number of rows to draw")
    if isinstance(columns := getattr(model, "visible", None), int):
        check_memory({"n": arguments["n"]}, columns, type(model).__name__)
