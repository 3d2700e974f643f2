"""Drawing and imputing unknown entries: the checks, and what is kept of a chain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from ...autoregressive.conditionals import check_known
from ...checks import check_count


def check_condition(x: Tensor, known: Tensor, draws: int, warmup: int = 0, thinning: int = 1) -> None:
    """Refuse rows, booleans and numbers of draws with which nothing can be drawn."""
    if not isinstance(x, Tensor) or x.dim() < 2 or len(x) == 0:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)
        raise ValueError(f"x got {got}; expected at least one row, rows x event_shape")
    check_known(x, known)
    for name, value, least in (("draws", draws, 1), ("warmup", warmup, 0), ("thinning", thinning, 1)):
        check_count(name, value, least)


def thinned(chain: Iterator[Tensor], draws: int, warmup: int, thinning: int) -> Tensor:
    """So many of a chain's steps, one in ``thinning``, after those of the warm-up."""
    return torch.stack(list(itertools.islice(chain, warmup + thinning - 1, warmup + draws * thinning, thinning)))


def later_half(chain: Iterator[Tensor], sweeps: int) -> Tensor:
    """The mean of a chain's steps, the first half of so many dropped."""
    total = next(itertools.islice(chain, sweeps // 2, None)).clone()
    for row in itertools.islice(chain, sweeps - sweeps // 2 - 1):
        total += row
    return total / (sweeps - sweeps // 2)


def check_imputation(
    x: Tensor, known: Tensor, event_shape: torch.Size, sweeps: int, what: str = "the sweeps of a chain"
) -> None:
    """Refuse to impute what is no rows of that shape, by booleans that do not fit them, or by fewer than two sweeps."""
    if not isinstance(x, Tensor) or x.shape[1:] != event_shape or x.dim() == 0:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
        raise ValueError(f"impute got data of {got}; expected rows x {tuple(event_shape)}, also of a single row")
    if len(x) == 0:
        raise ValueError(f"impute got data of shape {tuple(x.shape)}; expected at least one row")
    check_known(x, known)
    check_count("sweeps", sweeps, 2, what)
