"""Errors of a model's programs that come of the rows, in words about the rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...checks import other_precision
from ...energy import NotFinite

FAILURES = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)
"""What a program raises whose rows do not fit it, before any of its sites has looked at them."""


def blame_rows(model: Any, x: Any, error: Exception) -> None:
    """Raise an error that says what is wrong with the rows that a program failed on; return where nothing is.

    A single row has been refused in words by the data plate.

    Args:
        model: the program's model (a ``Model``).
        x: what the program was given as rows.
        error: what it raised.

    Raises:
        ValueError: the rows are no tensor, of another precision than the parameters, or no data for the model.
    """
    name, like = type(model).__name__, next(model.parameters(), None)
    if x is None or (isinstance(x, Tensor) and x.dim() == 1):
        return
    own = torch.get_default_dtype() if like is None else like.dtype
    if not isinstance(x, Tensor):
        raise ValueError(
            f"the programs of {name} got {type(x).__name__}; expected a tensor of rows, torch.as_tensor(x, dtype={own})"
        ) from error
    if x.dtype != own:
        raise ValueError(f"the programs of {name} {other_precision(x.dtype, own)}") from error
    try:
        model.check_data(x)
    except NotFinite:  # the weights, from which some models tell what rows may be
        return
    except ValueError as found:  # told as a plain one, since Pyro makes a new one of its type from the words alone
        raise ValueError(str(found)) from error
