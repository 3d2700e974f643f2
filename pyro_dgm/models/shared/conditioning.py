"""Drawing and imputing unknown entries: checks, and the states of a chain that are kept."""

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
    """Check the arguments of ``condition``, and return the chains' warm-up and thinning, 500 and 1 by default."""
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
    ValueError: warmup got 5, but the draws of FVBN are independent and come from no chain: leave it out
    """
    for option, value in chain.items():
        if value is not None:
            raise ValueError(
                f"{option} got {value!r}, but the draws of {name} are independent and come from no chain: leave it out"
            )


def thinned(chain: Iterator[Tensor], draws: int, warmup: int, thinning: int) -> Tensor:
    """``draws`` of a chain's states, one in ``thinning``, after those of the warm-up."""
    return torch.stack(list(itertools.islice(chain, warmup + thinning - 1, warmup + draws * thinning, thinning)))


def mean_of_later(chain: Iterator[Tensor], draws: int) -> Tensor:
    """The mean of ``draws`` of a chain's states, after as many that are dropped."""
    total = next(itertools.islice(chain, draws, None)).clone()
    for state in itertools.islice(chain, draws - 1):
        total += state
    return total / draws


def check_imputation(
    x: Tensor, known: Tensor, event_shape: torch.Size, draws: int, what: str = "the draws that are averaged"
) -> None:
    """Refuse data that are not rows of that shape, booleans that do not fit them, and fewer than two draws."""
    if not isinstance(x, Tensor) or x.shape[1:] != event_shape or x.dim() == 0:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
        raise ValueError(f"impute got data of {got}; expected rows x {tuple(event_shape)}, also for a single row")
    if len(x) == 0:
        raise ValueError(f"impute got data of shape {tuple(x.shape)}; expected at least one row")
    check_known(x, known)
    check_count("draws", draws, 2, what)


class ChainModel(ProbabilisticModel):
    """A model that draws and imputes unknown entries by Markov chains, one per row."""

    @abstractmethod
    def data_shape(self) -> torch.Size:
        """The shape of a row of data."""

    @abstractmethod
    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Tensor]:
        """Yield the rows after every step of one chain per row, which tends to their law given the known entries.

        Args:
            x: rows; unknown entries may hold any number, but not NaN.
            known: booleans, of the shape of a row or of all rows.
            warmup: the number of first steps in which the chains may adapt how they move.
        """

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, by the chains of ``conditional_chain``.

        The chains take ``2 draws`` steps, of which the first half is warm-up.
        """
        with torch.no_grad(), processes.one_stream():
            check_imputation(x, known, self.data_shape(), draws)
            return torch.where(known, x, mean_of_later(self.conditional_chain(x, known, draws), draws))

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draw by the chains of ``impute``, one per row."""
        warmup, thinning = check_condition(x, known, draws, warmup, thinning)
        with torch.no_grad(), processes.one_stream():
            # Unknown entries may be NaN.
            chain = self.conditional_chain(x.nan_to_num(), known, warmup)
            return thinned(chain, draws, warmup, thinning)
