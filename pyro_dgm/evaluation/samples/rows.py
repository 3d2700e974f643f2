"""Rows to be compared, from a model, a split or anything that holds rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...checks import check_count, check_seed, described
from ...data import Split
from ...data.rows import as_rows
from ...inference.registration import unregistered
from ...models.shared.model import Model
from ...nets.modes import evaluating

SAMPLED_AT_ONCE = 2000
"""Rows that a model draws at a time."""


def rows_of(rows: Any, name: str, n: int | None = None) -> Tensor:
    """Rows as a floating-point matrix.

    Args:
        rows: a model, from which ``n`` rows are drawn, a ``Split``, or rows as ``data.rows.as_rows`` takes them, of which the
            first ``n`` are taken.
        name: the name of the argument in messages.
        n: a number of rows, or None for all.

    Raises:
        ValueError: no rows, a single one without its dimension, fewer than n, or values that are not finite.
    """
    n = None if n is None else check_count("n", n)
    if isinstance(rows, Model):
        if n is None:
            raise ValueError(f"{name} got the model {type(rows).__name__}; expected rows")
        with unregistered(), evaluating(rows), torch.no_grad():
            counts = [min(SAMPLED_AT_ONCE, n - start) for start in range(0, n, SAMPLED_AT_ONCE)]
            found = torch.cat([rows.sample(count) for count in counts])
    else:
        found = as_rows(rows.x if isinstance(rows, Split) else rows, name)
        if found.dim() < 2:
            raise ValueError(f"{name} got {described(found)}; expected a matrix of rows x columns")
        found = found.flatten(1)
        if n is not None and len(found) < n:
            raise ValueError(f"{name} has {len(found)} rows; expected at least {n}")
        found = found[:n]
    if not len(found) or not bool(found.isfinite().all()):
        raise ValueError(f"{name} holds no rows, or values that are not finite; expected a matrix of numbers")
    return found.detach().cpu().to(torch.promote_types(found.dtype, torch.float32))


def at_random(rows: Tensor, n: int | None, seed: int) -> Tensor:
    """The rows, or ``n`` of them where there are more: at random, since the first rows of a file have a law of their own.

    >>> at_random(torch.arange(3.0), 5, seed=0), len(at_random(torch.arange(9.0), 5, seed=0))
    (tensor([0., 1., 2.]), 5)
    """
    if n is None or check_count("n", n) >= len(rows):
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(check_seed(seed)))[:n]]


def check_same_width(**sets: Tensor) -> None:
    """Refuse sets of rows of different widths.

    Raises:
        ValueError: the widths differ.
    """
    widths = {name: rows.shape[1] for name, rows in sets.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"rows of different widths: {widths}; leave out columns (labels) that only some of them have")
