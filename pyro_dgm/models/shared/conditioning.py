"""Drawing and imputing unknown entries: checks, and models that do so by chains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ... import processes
from ...autoregressive.conditionals import check_known
from ...checks import check_count
from .chain_details import KeptSteps, Step
from .model import Model, ProbabilisticModel


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


class ConditionalsByChain(Model):
    """A model that draws and imputes unknown entries by Markov chains, one per row."""

    @abstractmethod
    def data_shape(self) -> torch.Size:
        """The shape of a row of data."""

    @abstractmethod
    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        """Yield the state after every step of one chain per row, which tends to the rows' law given the known entries.

        Args:
            x: rows; unknown entries may hold any number, but not NaN.
            known: booleans, of the shape of a row or of all rows.
            warmup: the number of first steps in which the chains may adapt how they move.
        """

    def mean_chain(self, x: Tensor, known: Tensor, warmup: int, **options: Any) -> Iterator[Step]:
        """The chain whose rows ``impute`` averages; by default that of ``condition``, which may take options."""
        return self.conditional_chain(x, known, warmup, **options)

    def shape_of(self, x: Tensor) -> torch.Size:
        """The shape that rows must have; by default ``data_shape``, whatever the rows."""
        return self.data_shape()

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, by the chains of ``conditional_chain``.

        The chains take ``2 draws`` steps, of which the first half is warm-up.
        """
        return self._imputed(x, known, draws)[0]

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``impute``, and acceptance, effective sample size and R-hat of the chains."""
        filled, kept = self._imputed(x, known, draws, keep=True)
        return filled, kept.details(known.expand(x.shape))

    def _imputed(
        self, x: Tensor, known: Tensor, draws: int, keep: bool = False, **options: Any
    ) -> tuple[Tensor, KeptSteps]:
        """The means of the chains' rows, and with ``keep`` the steps behind them."""
        with torch.no_grad(), processes.one_stream():
            check_imputation(x, known, self.shape_of(x), draws)
            total, kept = torch.zeros_like(x), KeptSteps()
            chain = self.mean_chain(x.nan_to_num(), known, draws, **options)
            for step in kept.through(chain, draws, draws, 1, keep):
                total += step.rows
            return torch.where(known, x, total / draws), kept

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draw by the chains of ``impute``, one per row."""
        return self._drawn(x, known, draws, warmup, thinning).rows()

    def condition_with_details(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``condition``, and acceptance, effective sample size and R-hat of the chains."""
        kept = self._drawn(x, known, draws, warmup, thinning)
        return kept.rows(), kept.details(known.expand(x.shape))

    def _drawn(self, x: Tensor, known: Tensor, draws: int, warmup: int | None, thinning: int | None) -> KeptSteps:
        """The states of the chains that are kept."""
        warmup, thinning = check_condition(x, known, draws, warmup, thinning)
        if x.shape[1:] != (shape := self.shape_of(x)):
            raise ValueError(f"condition got data of shape {tuple(x.shape)}; expected rows x {tuple(shape)}")
        with torch.no_grad(), processes.one_stream():
            kept = KeptSteps()
            # Unknown entries may be NaN.
            for _ in kept.through(self.conditional_chain(x.nan_to_num(), known, warmup), warmup, draws, thinning):
                pass
            return kept


class ChainModel(ConditionalsByChain, ProbabilisticModel):
    """A model with Pyro programs that draws and imputes unknown entries by Markov chains, one per row."""
