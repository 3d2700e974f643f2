"""Ratio matching."""

from __future__ import annotations

import torch
from torch import Tensor

from .pseudolikelihood import FlipObjective


class RatioMatching(FlipObjective):
    r"""$\sum_i g\big(p(x) / p(\tilde x_i)\big)^2$ with $g(u) = 1 / (1 + u)$ and unit i flipped in $\tilde x_i$ (18.26).

    That is $\sum_i (1 - p(x_i \mid x_{-i}))^2$: score matching for two-state units, bounded by one per unit, so that
    single impossible values do not dominate the gradient. For data of a machine of the family the minimum is that machine.

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

    def term(self, log_odds: Tensor) -> Tensor:
        return torch.sigmoid(-log_odds).square()
