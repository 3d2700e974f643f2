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


def check_condition(
    x: Tensor, known: Tensor, draws: int, warmup: int | None = None, thinning: int | None = None
) -> tuple[int, int]:
    """The warm-up and thinning of chains, 500 and 1 by default; refuses rows, booleans and counts that nothing comes of."""
    if not isinstance(x, Tensor) or x.dim() < 2 or len(x) == 0:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)
        raise ValueError(f"x got {got}; expected at least one row, rows x event_shape")
    check_known(x, known)
    check_count("draws", draws)
    warmup, thinning = 500 if warmup is None else warmup, 1 if thinning is None else thinning
    return check_count("warmup", warmup, 0), check_count("thinning", thinning)


def check_independent(name: str, **chain: int | None) -> None:
    """Refuse a warm-up or thinning where there is no chain.

    >>> check_independent("FVBN", warmup=5, thinning=None)
    Traceback (most recent call last):
    ...
    ValueError: warmup got 5, but the draws of FVBN are independent of one another, of no chain: leave it out
    """
    for option, value in chain.items():
        if value is not None:
            raise ValueError(
                f"{option} got {value!r}, but the draws of {name} are independent of one another, of no chain: leave it out"
            )


def thinned(chain: Iterator[Tensor], draws: int, warmup: int, thinning: int) -> Tensor:
    """So many of a chain's steps, one in ``thinning``, after those of the warm-up."""
    return torch.stack(list(itertools.islice(chain, warmup + thinning - 1, warmup + draws * thinning, thinning)))


def mean_of_later(chain: Iterator[Tensor], draws: int) -> Tensor:
    """The mean of so many of a chain's steps, after as many that are dropped."""
    total = next(itertools.islice(chain, draws, None)).clone()
    for row in itertools.islice(chain, draws - 1):
        total += row
    return total / draws


def check_imputation(
    x: Tensor, known: Tensor, event_shape: torch.Size, draws: int, what: str = "the draws that are averaged"
) -> None:
    """Refuse to impute what is no rows of that shape, by booleans that do not fit them, or by fewer than two draws."""
    if not isinstance(x, Tensor) or x.shape[1:] != event_shape or x.dim() == 0:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
        raise ValueError(f"impute got data of {got}; expected rows x {tuple(event_shape)}, also of a single row")
    if len(x) == 0:
        raise ValueError(f"impute got data of shape {tuple(x.shape)}; expected at least one row")
    check_known(x, known)
    check_count("draws", draws, 2, what)


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

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, by the chains of ``conditional_chain``.

        Of twice as many steps the first half warms up.
        """
        with torch.no_grad(), processes.one_stream():
            check_imputation(x, known, self.data_shape(), draws)
            return torch.where(known, x, mean_of_later(self.conditional_chain(x, known, draws), draws))

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draws by the chains of ``impute``, one a row."""
        warmup, thinning = check_condition(x, known, draws, warmup, thinning)
        with torch.no_grad(), processes.one_stream():
            # What is unknown may be NaN.
            chain = self.conditional_chain(x.nan_to_num(), known, warmup)
            return thinned(chain, draws, warmup, thinning)
