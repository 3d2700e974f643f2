"""Drawing and imputing unknown entries: the checks, and what is kept of a chain."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from ... import processes
from ...autoregressive.conditionals import check_known
from ...checks import check_count
from .model import ProbabilisticModel


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


class ChainModel(ProbabilisticModel):
    """A model that imputes and draws unknown entries by Markov chains, one a row."""

    @abstractmethod
    def data_shape(self) -> torch.Size:
        """The shape of a row of data."""

    @abstractmethod
    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Tensor]:
        """Rows after every step of a chain each, whose law tends to that of the rest given what is known.

        Args:
            x: rows; what stands in unknown entries does not matter, but must be a number.
            known: booleans, of the shape of a row or of all rows.
            warmup: so many first steps may adapt how the chains move.
        """

    def impute(self, x: Tensor, known: Tensor, sweeps: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, by the chains of ``conditional_chain``.

        The first half of the sweeps is dropped.
        """
        with torch.no_grad(), processes.one_stream():
            check_imputation(x, known, self.data_shape(), sweeps)
            return torch.where(known, x, later_half(self.conditional_chain(x, known, sweeps // 2), sweeps))

    def condition(self, x: Tensor, known: Tensor, draws: int = 100, warmup: int = 500, thinning: int = 1) -> Tensor:
        """Draws by the chains of ``impute``, one a row."""
        check_condition(x, known, draws, warmup, thinning)
        with torch.no_grad(), processes.one_stream():
            # What is unknown may be NaN.
            chain = self.conditional_chain(x.nan_to_num(), known, warmup)
            return thinned(chain, draws, warmup, thinning)
