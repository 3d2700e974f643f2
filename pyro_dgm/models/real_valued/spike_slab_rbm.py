"""Spike-and-slab restricted Boltzmann machine, section 20.5.4."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_count
from ...energy import Dense, Gaussian, Graph, SpikeSlab
from ..shared.examples import seeded
from ..shared.slabs import SLACK, SlabMixture


class SpikeSlabRBM(SlabMixture):
    r"""Spike-and-slab RBM: hidden units that also shape the covariance of real rows (Courville et al. 2011).

    $E(x, s, h) = -\sum_i x^\top W_i s_i h_i + \tfrac12 x^\top(\Lambda + \sum_i \Phi_i h_i) x + \tfrac12 \sum_i \alpha_i s_i^2
    - \sum_i \alpha_i \mu_i s_i h_i - \sum_i b_i h_i + \sum_i \alpha_i \mu_i^2 h_i$ (20.50), with $\Lambda$, $\Phi_i$ diagonal;
    with K slabs per spike, $s_i$, $\mu_i$ and $\alpha_i$ are vectors of K and $W_i$ has K columns. Then

    - $x \mid h \sim N(C \sum_i h_i W_i \mu_i,\; C)$ with
      $C^{-1} = \Lambda + \sum_i h_i (\Phi_i - W_i \alpha_i^{-1} W_i^\top)$ (20.51-52),
    - $P(h_i = 1 \mid x) = \sigma\bigl(\tfrac12 \alpha_i^{-1} (x^\top W_i)^2 + x^\top W_i \mu_i - \tfrac12 \alpha_i \mu_i^2
      - \tfrac12 x^\top \Phi_i x + b_i\bigr)$ (20.53), which follows from the last term of (20.50) with the factor one, as given
      here.

    A machine has a normaliser where $C^{-1}$ is positive definite for every h (``dgm.spike_slab_validity``). The
    parametrisation ensures it: with $a > 0$,
    $\alpha_{ik} = a_{ik} + 1.0001\, K \sum_j W_{jik}^2 / (\Phi_{ji} + \Lambda_j / N)$,
    since then $W_i \alpha_i^{-1} W_i^\top \prec \Phi_i + \Lambda / N$. Training needs no projection. Spike and slabs
    are drawn jointly, so that Gibbs sampling has two blocks: (h, s) given x, and x given both.

    The energy has no visible bias: subtract the data's mean first. A first ``fit`` sets $\Lambda$ from the data's variances, and
    scales $\Phi$ and W to it.

    Args:
        visible: the number of visible units.
        hidden: N, the number of spikes.
        slabs: K, slabs per spike.
        square: learn $\Phi$; otherwise it is 0.

    Attributes:
        weight: $W$, ``visible x hidden x slabs``.
        slab_mean: $\mu$, ``hidden x slabs``.
        hidden_bias: $b$, ``hidden``.
        log_precision: $\log\Lambda$, ``visible``.
        log_square: $\log\Phi$, ``visible x hidden`` (with ``square``).
        log_slab: $\log a$, ``hidden x slabs``.

    Raises:
        ValueError: a number of units or slabs below one.

    Pooled slabs: Courville, Desjardins, Bergstra and Bengio (2014).

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> ssrbm = dgm.SpikeSlabRBM(visible=6, hidden=4)
        >>> ssrbm.conditional(torch.ones(4)).covariance_matrix.shape
        torch.Size([6, 6])
    """

    def __init__(self, visible: int, hidden: int = 100, slabs: int = 1, square: bool = True) -> None:
        super().__init__()
        slabs = check_count("slabs", slabs, what="how many slabs a spike has")
        self._graph = Graph(
            {"visible": Gaussian(visible), "hidden": SpikeSlab(hidden, 1 + slabs)},
            [Dense("visible", "hidden")] + ([Dense(("visible", 1), "hidden")] if square else []),
        )
        self.visible, self.hidden, self.slabs, self.square = visible, hidden, slabs, square
        # Weights of order one and slab means of zero: small weights and equal slabs would make the filters alike.
        self.weight = nn.Parameter(torch.randn(visible, hidden, slabs))
        self.slab_mean = nn.Parameter(torch.zeros(hidden, slabs))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.log_precision = nn.Parameter(torch.zeros(visible))
        self.log_slab = nn.Parameter(torch.zeros(hidden, slabs))
        if square:
            self.log_square = nn.Parameter(torch.zeros(visible, hidden))

    @property
    def alpha(self) -> Tensor:
        r"""$\alpha$, ``hidden x slabs``, large enough for a positive definite precision."""
        share = self.phi + self.precision.unsqueeze(-1) / self.hidden
        return self.log_slab.exp() + (1 + SLACK) * self.slabs * (self.weight**2 / share.unsqueeze(-1)).sum(0)

    def _slabs(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.hidden_bias, self.slab_mean, self.alpha

    def _couplings(self) -> list[Tensor]:
        weights = [F.pad(self.weight, (1, 0)).flatten(1)]
        if self.square:
            weights.append(F.pad(-0.5 * self.phi.unsqueeze(-1), (0, self.slabs)).flatten(1))
        return weights

    def _unrolled(self) -> tuple[Tensor, Tensor]:
        return self.weight, self.phi

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": self.hidden, "slabs": self.slabs, "square": self.square}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=4, hidden=3), lambda: torch.randn(10, 4), scale=0.7)
