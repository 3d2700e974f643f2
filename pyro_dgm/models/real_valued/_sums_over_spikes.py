"""Exact sums over the spikes of a machine whose slabs are coupled to one another."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..shared.listed import ENTRIES, bit_states

LARGEST = 12
"""The most spikes for which log Z and the free energy are computed exactly."""


class SumsOverSpikes(NamedTuple):
    r"""The parameters of a ``CoupledSlabRBM``, and its exact sums over all h: the Gaussian integrals by determinants.

    Attributes:
        weight: $W$, ``visible x hidden``.
        coupling: $J$ as a symmetric matrix, ``hidden x hidden``.
        slab_mean: $\mu$, ``hidden``.
        hidden_bias: $b$, ``hidden``.
        precision: $\Lambda$, ``visible``.
        phi: $\Phi$, ``visible x hidden``.
        alpha: $\alpha$, ``hidden``.
    """

    weight: Tensor
    coupling: Tensor
    slab_mean: Tensor
    hidden_bias: Tensor
    precision: Tensor
    phi: Tensor
    alpha: Tensor

    def log_partition(self) -> Tensor:
        r"""Log Z in nats.

        With x integrated out first the slabs have the precision
        $M_h = A_h - W_h^\top P_h^{-1} W_h$, $P_h = \Lambda + \sum_i \Phi_i h_i$, and
        $\log\int e^{-E}\,dx\,ds = \sum_i h_i (b_i - \alpha_i \mu_i^2) + \tfrac12 g^\top M_h^{-1} g - \tfrac12 \log|M_h|
        - \tfrac12 \log|P_h| + \tfrac12 (D + N) \log 2\pi$ with $g = \alpha \mu h$.

        Raises:
            NotEnumerable: more than 12 spikes.
        """
        visible, hidden = self.weight.shape
        terms = []
        for h in self._spikes().split(max(ENTRIES // (visible * hidden), 1)):
            precision = self.precision + h @ self.phi.mT
            roots = self.weight.mT * h.unsqueeze(-1)
            form = self._slab_form(h) - (roots / precision.unsqueeze(-2)) @ roots.mT
            pull = (self.alpha * self.slab_mean * h).unsqueeze(-1)
            constant = h @ (self.hidden_bias - self.alpha * self.slab_mean**2) - 0.5 * precision.log().sum(-1)
            terms.append(constant + _log_integral(form, pull).squeeze(-1))
        return torch.cat(terms).logsumexp(0) + 0.5 * (visible + hidden) * math.log(2 * math.pi)

    def free_energy(self, x: Tensor) -> Tensor:
        r"""$F(x) = -\log\sum_h \int e^{-E(x, s, h)}\,ds$ in nats, one figure per row of ``x``, ``rows x visible``.

        Raises:
            NotEnumerable: more than 12 spikes.
        """
        hidden = len(self.alpha)
        terms = []
        slope = (self.alpha * self.slab_mean).unsqueeze(-1) + self.weight.mT @ x.mT  # hidden x rows
        gate = (self.hidden_bias - self.alpha * self.slab_mean**2).unsqueeze(-1) - 0.5 * self.phi.mT @ (x**2).mT
        for h in self._spikes().split(max(ENTRIES // (len(x) * hidden), 1)):
            terms.append(h @ gate + _log_integral(self._slab_form(h), slope * h.unsqueeze(-1)))
        log_sum = torch.cat(terms).logsumexp(0) + 0.5 * hidden * math.log(2 * math.pi)
        return 0.5 * x**2 @ self.precision - log_sum

    def _spikes(self) -> Tensor:
        """All states of the spikes."""
        instead = "Use dgm.log_partition(model(), method='ais'), or bound(x) for rows"
        return bit_states(len(self.alpha), self.weight, LARGEST, "spikes", instead)

    def _slab_form(self, h: Tensor) -> Tensor:
        """A_h, the precision of the slabs given x and h: ``batch_shape x hidden x hidden``."""
        return self.alpha.diag() - self.coupling * h.unsqueeze(-1) * h.unsqueeze(-2)


def _log_integral(form: Tensor, slopes: Tensor) -> Tensor:
    r"""$\tfrac12 l^\top A^{-1} l - \tfrac12 \log|A|$ for every column l of ``slopes``: ``batch_shape x columns``."""
    factor = torch.linalg.cholesky(form)
    whitened = torch.linalg.solve_triangular(factor, slopes, upper=False)
    return 0.5 * (whitened**2).sum(-2) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
