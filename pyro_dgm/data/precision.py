"""Rows in another precision, with a warning where whole numbers lose digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..calls import warn_caller

WHOLE = 2**24
"""The largest number up to which single precision holds all whole numbers."""

_ALL_WHOLE = 2**53
"""Beyond it all numbers of double precision are whole."""


def in_precision(x: Tensor, dtype: torch.dtype, name: str = "data", names: Sequence[str] | None = None) -> Tensor:
    """Rows in a floating-point type.

    Args:
        x: rows.
        dtype: the type.
        name: what the rows are called in the warning.
        names: the names of their columns.

    Warns:
        UserWarning: whole numbers that the type does not hold, so that different ones may become equal.
    """
    if x.dtype == dtype:
        return x
    found = x.to(dtype)
    if (
        dtype == torch.float32
        and type(x) is Tensor
        and x.numel()
        and x.dtype in (torch.int32, torch.int64, torch.float64)
    ):
        exact = x.double()
        whole = (
            (exact == exact.round()) & (exact.abs() < _ALL_WHOLE) if x.is_floating_point() else torch.ones_like(x) > 0
        )
        lost = whole & (exact.abs() > WHOLE) & (found.double() != exact)
        if bool(lost.any()):
            place = tuple(lost.nonzero()[0].tolist())
            column = f"column {place[-1]}" if names is None else f"column {names[place[-1]]!r}"
            warn_caller(
                f"{name}: {column} holds {int(x[place])} in row {place[0]}, which becomes {int(found[place])}: single precision "
                f"has no room for the last digits of whole numbers beyond {WHOLE:,}, and different ones may become equal. "
                "Subtract the smallest value before, or standardise: dgm.data.load(..., preprocessing='standardised') does it in "
                "double precision"
            )
    return found
