"""Calls of public functions: unknown arguments are answered with those that there are, and warnings point at the caller."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

ELSEWHERE = {
    "lr": "learning_rate", "optimizer": "optimiser", "binarization": "binarisation", "max_epochs": "epochs",
    "n_epochs": "epochs", "n_chains": "chains", "num_chains": "chains", "num_samples": "draws", "num_particles": "particles",
}  # fmt: skip
"""What other packages call our arguments."""

_INSIDE = (str(Path(__file__).parent), contextlib.__file__)
"""Files whose lines are no user's: this package's, and that of the decorators that it uses."""


def warn_caller(message: str) -> None:
    """Warn at the line outside of this package from which the work was asked for, however many calls lie between.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_caller("too few rows")
        >>> str(caught[0].message)
        'too few rows'
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_code.co_filename.startswith(_INSIDE) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def bound(
    signature: inspect.Signature, owner: str, args: Iterable[Any], options: Mapping[str, Any], hidden: int = 0
) -> inspect.BoundArguments:
    """The arguments of a call by name.

    Args:
        signature: of the function that was called.
        owner: its name in the message.
        args: what came by position.
        options: what came by name.
        hidden: the number of first parameters that no caller gives, as ``self``.

    Raises:
        TypeError: an argument that it does not take, with the nearest of those that it takes; or one that is missing.

    Example:
        >>> bound(inspect.signature(lambda learning_rate=0.1: 0), "fit", (), {"lr": 0.1})
        Traceback (most recent call last):
        ...
        TypeError: fit got an unexpected keyword argument 'lr', is it learning_rate? expected learning_rate
    """
    try:
        return signature.bind(*args, **options)
    except TypeError as error:
        names = list(signature.parameters)[hidden:]
        unknown = next((name for name in options if name not in names), None)
        raise TypeError(f"{owner} {error}{_near(unknown, names)} expected {', '.join(names)}") from None


def _near(unknown: str | None, names: list[str]) -> str:
    if unknown is None:
        return ";"
    if (ours := ELSEWHERE.get(unknown)) in names:
        return f", is it {ours}?"
    near = difflib.get_close_matches(unknown, names, 1)
    return f", is it {near[0]}?" if near else ";"


def says_what_it_takes(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function whose calls with other arguments than its own are answered by ``bound``.

    Example:
        >>> says_what_it_takes(lambda rows: rows + 1)(rows=2)
        3
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        bound(signature, function.__name__, args, options)
        return function(*args, **options)

    return checked
