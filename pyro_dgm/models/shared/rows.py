"""Checks of data rows, and of a model's parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ... import advice
from ...checks import check_rows as check_rows
from ...inference.light import some_missing
from .model import Model

ROWS_AT_ONCE = 2000
"""Rows that are scored in one pass; it bounds the memory and changes nothing else."""

PROGRESS_ROWS = 1000
"""Rows of a split from which figures of progress are computed after every epoch: enough to tell a trend."""


def filled_by_others(x: Tensor) -> Tensor:
    """The rows with every missing value (NaN) replaced by a known one of its column, in turn, so that columns keep their laws.

    A column without known values becomes zero.

    Example:
        >>> filled_by_others(torch.tensor([[1.0], [torch.nan], [3.0], [torch.nan]])).T
        tensor([[1., 1., 3., 3.]])
    """
    missing = x.isnan()
    if not bool(missing.any()):
        return x
    filled = x.clone()
    for column in missing.any(0).nonzero().flatten().tolist():
        holes = missing[:, column]
        values = x[~holes, column]
        values = values if len(values) else x.new_zeros(1)
        filled[holes, column] = values[torch.arange(int(holes.sum()), device=x.device) % len(values)]
    return filled


def not_finite(model: Model) -> str | None:
    """A sentence that names the first parameter with entries that are not finite; None where all are finite."""
    for name, parameter in model.named_parameters():
        if not parameter.detach().isfinite().all():
            return f"{name} has entries that are not finite"
    return None


class OutsideSupport(ValueError):
    """Rows have a value outside the support of their column.

    Args:
        got: what the rows hold.
        advice: what is expected.
        column: the number of the column, from 0, in what the model checked, which may be a part of the rows.
        value: the value.
        name: the column's name, where it is known.
    """

    def __init__(self, got: str, advice: str, column: int, value: float, name: str | None = None) -> None:
        super().__init__(f"{got}{'' if name is None else f' in column {name!r}'}; {advice}")
        self.got, self.advice, self.column, self.value = got, advice, column, value

    def named(self, rows: Tensor, names: Sequence[str]) -> OutsideSupport:
        """The same error with the column's name, if the names of the rows' columns tell it."""
        if rows.dim() != 2 or self.column >= len(names) or not bool((rows[:, self.column] == self.value).any()):
            return self
        return OutsideSupport(self.got, self.advice, self.column, self.value, names[self.column])


def check_support(
    x: Tensor, allowed: Callable[[Tensor], Tensor], name: str, expected: str, hint: Callable[[], str]
) -> None:
    """Refuse values outside a support, and name the first; missing ones (NaN) are for ``check_rows``; ``hint`` makes advice."""
    inside = allowed(x)
    if inside.all():
        return
    outside = ~(inside | x.isnan())
    if outside.any():
        value = float(x[outside][0])
        column = int(outside.nonzero()[0, -1])
        raise OutsideSupport(f"{name} got the value {value:g}", f"expected {expected}. {hint()}", column, value)


def check_binary(x: Tensor, name: str, otherwise: str = "") -> None:
    """Refuse values other than 0 and 1; ``otherwise`` adds another remedy for grey levels and real numbers."""
    check_support(x, lambda v: (v == 0) | (v == 1), name, "0 or 1", lambda: advice.on_bits(x, otherwise))


def known_alone(columns: Any, x: Tensor | None) -> tuple[Any, Tensor | None]:
    """The distribution of rows, and the rows: where values are missing (NaN), of the known columns alone.

    The columns are independent given the latents, so that the missing ones are summed out by leaving them out, and all
    bounds are those of the known values (Mattei and Frellsen 2019).

    Args:
        columns: the columns' distribution, of ``event_shape`` (visible,).
        x: rows of these columns, or None.
    """
    if x is None or not some_missing(x):
        return columns, x
    missing = x.isnan()
    return columns.base_dist.mask(~missing).to_event(1), torch.where(missing, 0.0, x)
