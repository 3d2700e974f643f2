"""Ratio matching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..objective import Objective
from .conditionals import boltzmann, check_two_states, distribution_of, flips, observed, state_log_probabilities
from .pseudolikelihood import checked_entries


class RatioMatching(Objective):
    r"""$\sum_i g\big(p(x) / p(\tilde x_i)\big)^2$ with $g(u) = 1 / (1 + u)$ and unit i flipped in $\tilde x_i$ (18.26).

    That is $\sum_i (1 - p(x_i \mid x_{-i}))^2$: score matching for two-state units, bounded by one per unit, so that
    single impossible values do not dominate the gradient. For data of a machine of the family the minimum is that machine.
    A label of rows has for its term half the Brier score of $p(y \mid x)$, which for two classes is the same.

    Args:
        entries: the number of units per row that are flipped in a step (drawn at random, and scaled up without bias);
            ``None`` flips all.

    Raises:
        ValueError: ``entries`` below one; when a model is attached, visible units that do not have two states.

    References:
        Hyvärinen 2007, Some extensions of score matching; Marlin, Swersky, Chen and de Freitas 2010, Inductive principles
        for restricted Boltzmann machine learning.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> run = dgm.fit(rbm, x, objective=dgm.RatioMatching(entries=3), epochs=1, progress=False)
    """

    needs_whole_rows = "flips every unit given all others"

    def __init__(self, entries: int | None = None) -> None:
        self.entries = checked_entries(entries)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "entries": self.entries}

    def attach(self, model: Any) -> None:
        check_two_states(distribution_of(model, type(self).__name__), type(self).__name__)
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        dist = boltzmann(self._model(), type(self).__name__)
        x, others = observed(self._model, dist, x)
        given = dist.given(others) if others else dist
        log_odds, scale = flips(given, x, self.entries, type(self).__name__)
        loss = scale * torch.sigmoid(-log_odds).square().sum(-1).mean()
        for layer in others:
            for log_p, own in state_log_probabilities(dist, x, others, layer):
                loss = loss + 0.5 * (log_p.exp().square().sum(-1) + 1 - 2 * own.exp()).mean()
        return loss
