"""Weighted draws of rows whose unknown columns were filled in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import processes
from .outputs import Output

METHODS = ("order", "enumeration", "importance")
"""The methods by which unknown columns are filled in; by default the first that works is taken."""


@dataclass(frozen=True)
class Completion:
    r"""Weighted draws of rows whose unknown columns were filled in.

    Attributes:
        draws: ``K x rows x D``; the known columns are unchanged.
        log_weights: ``K x rows``; the mean of their exponentials is $p(x_b)$, or an unbiased estimate of it.
        output: the columns' families.
        chosen: for every row the number of its method in ``METHODS``.
    """

    draws: Tensor
    log_weights: Tensor
    output: Output
    chosen: Tensor

    @property
    def method(self) -> str:
        """``"order"`` (the known columns come first: independent exact draws, of equal weight unless several orders are
        averaged), ``"enumeration"`` (all values of the unknown columns, exact) or ``"importance"``; several of them, with
        commas between, where rows with unlike known columns were completed by different ones.
        """
        return ", ".join(sorted(METHODS[number] for number in self.chosen.unique().tolist()))

    @property
    def exact(self) -> bool:
        """True where ``log_known`` of all rows is exact and not an estimate."""
        return not bool((self.chosen == METHODS.index("importance")).any())

    @property
    def log_known(self) -> Tensor:
        r"""$\log p(x_b)$ of every row, in nats; by importance the log of an unbiased estimate, too small on average."""
        return self.log_weights.logsumexp(0) - math.log(len(self.log_weights))

    @property
    def shares(self) -> Tensor:
        """The draws' weights, normalised to sum to one in every row: ``K x rows``."""
        return self.log_weights.softmax(0)

    @property
    def effective_sample_size(self) -> Tensor:
        r"""$1 / \sum_k \tilde w_k^2$ of every row: the number of equally weighted draws that are worth as much.

        It says nothing of rows whose values are listed: see ``worth``.
        """
        shares = self.log_weights.double().softmax(0)
        return (1 / shares.square().sum(0)).to(self.log_weights.dtype)

    def worth(self, draws: int) -> Tensor:
        """The effective sample size of every row; ``draws`` where all values were listed and nothing is left to chance."""
        return torch.where(self.chosen == METHODS.index("enumeration"), float(draws), self.effective_sample_size)

    @property
    def mean(self) -> Tensor:
        """The means of the unknown columns (the most probable category), ``rows x D``; known ones are unchanged."""
        same = (self.draws == self.draws[0]).all(0)  # the mean of equal draws would differ by rounding
        return torch.where(same, self.draws[0], self.output.centre(self.draws, self.shares))

    def resampled(self, n: int) -> Tensor:
        """Draw ``n`` completions of equal weight for every row, with probabilities ``shares``: ``n x rows x D``."""
        with processes.one_stream():
            chosen = torch.multinomial(self.shares.T, n, replacement=True).T
        return self.draws[chosen, torch.arange(self.draws.shape[1], device=self.draws.device)]

    @staticmethod
    def joined(parts: Sequence[tuple[Tensor, Completion]]) -> Completion:
        """Join completions of parts of the rows into one, by the rows' numbers.

        A row with fewer draws than another is filled up with draws of weight zero.
        """
        if len(parts) == 1:
            return parts[0][1]
        completions = [completion for _, completion in parts]
        most = max(len(completion.draws) for completion in completions)
        padded = [completion._padded(most) for completion in completions]
        original_order = torch.cat([rows for rows, _ in parts]).argsort()
        return Completion(
            torch.cat([draws for draws, _ in padded], 1)[:, original_order],
            torch.cat([log_weights for _, log_weights in padded], 1)[:, original_order],
            completions[0].output,
            torch.cat([completion.chosen for completion in completions])[original_order],
        )

    def _padded(self, draws: int) -> tuple[Tensor, Tensor]:
        """The draws and log weights with further draws of weight zero, so that there are ``draws``."""
        missing = draws - len(self.draws)
        if missing == 0:
            return self.draws, self.log_weights
        nothing = self.log_weights.new_full((missing, self.log_weights.shape[1]), -math.inf)
        # The mean of the weights is p(x_b): over more draws every weight counts for more.
        log_weights = self.log_weights + math.log(draws / len(self.draws))
        return torch.cat([self.draws, self.draws[:1].expand(missing, *self.draws.shape[1:])]), torch.cat(
            [log_weights, nothing]
        )
