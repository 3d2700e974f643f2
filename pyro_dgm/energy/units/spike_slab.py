"""Spike-and-slab units: a binary spike that switches real-valued slabs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from ...native import bernoulli
from .unit import Unit, widest


class _SpikesWithSlabs(constraints.Constraint):
    """Rows (h, s_1 ... s_K) with h in {0, 1} and real s."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        h = value[..., 0]
        return ((h == 0) | (h == 1)) & value.isfinite().all(-1)


class SpikeSlab(Unit):
    r"""Atoms $(h_i, s_{i1} \dots s_{iK})$: a spike $h_i \in \{0,1\}$ with K slabs $s_{ik} \in \mathbb{R}$ (20.50-53).

    $T = ((h, hs), (0, s^2))$, natural parameters $((b, c), (\cdot, -\alpha/2))$: the first entry of the second statistic is
    always 0, so that both have the layer's shape. Then $s_k \mid h \sim N(h c_k / \alpha_k, 1 / \alpha_k)$,
    $P(h = 1) = \sigma(b + \sum_k c_k^2 / 2\alpha_k)$ and
    $A = \tfrac12 \sum_k \log(2\pi / \alpha_k) + \mathrm{softplus}(b + \sum_k c_k^2 / 2\alpha_k)$. Spike and slabs are drawn
    jointly.

    Args:
        shape: ``(spikes, 1 + slabs)``; the last dimension lies inside the atom.

    Raises:
        ValueError: no slab.

    Courville, Bergstra and Bengio (2011), "A spike and slab restricted Boltzmann machine"; pooled slabs as in Courville et
    al. (2014).

    Example:
        >>> import torch
        >>> unit = SpikeSlab(1, 2)
        >>> unit.mean(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -0.5]]))
        (tensor([[0.5000, 0.0000]]), tensor([[0., 1.]]))
    """

    statistics = ("h, hs", "s2")
    inner_dim = 1
    support = _SpikesWithSlabs()
    degrees = (1, 2)
    gated = True
    switches = slice(1)

    def __init__(self, *shape: int) -> None:
        super().__init__(*shape)
        if self.shape[-1] < 2:
            raise ValueError(f"SpikeSlab got shape {shape}; its last dimension is 1 + slabs, as in SpikeSlab(500, 2)")

    def T(self, x: Tensor) -> tuple[Tensor, ...]:
        # Products of whole atoms, corrected in place: joining parts of few entries takes twice their time.
        gated, squares = x * x[..., :1], x * x
        gated[..., 0], squares[..., 0] = x[..., 0], 0
        return gated, squares

    def A(self, *eta: Tensor) -> Tensor:
        alpha = _split(eta)[2]
        return 0.5 * (math.log(2 * math.pi) - torch.log(alpha)).sum(-1) + F.softplus(_logit(eta))

    def mean(self, *eta: Tensor) -> tuple[Tensor, ...]:
        _, c, alpha = _split(eta)
        p = torch.sigmoid(_logit(eta)).unsqueeze(-1)
        location = c / alpha
        first = torch.cat([p, p * location], -1)
        return first, torch.cat([torch.zeros_like(p), 1 / alpha + p * location**2], -1)

    def sample(self, *eta: Tensor, overwrite: bool = False) -> Tensor:
        eta = tuple(e.detach() for e in eta)
        return _with_slabs(bernoulli(_logit(eta)), eta)

    def sample_clamped(self, eta: Sequence[Tensor], mask: Tensor, value: Tensor) -> Tensor:
        """Draw atoms in which known slabs weigh for or against the spike, and a known spike moves its slabs."""
        eta = tuple(e.detach().expand(mask.shape) for e in eta)
        known, h = mask[..., 0], value[..., 0]
        b, c, alpha = _split(eta)
        evidence = torch.where(mask[..., 1:], c * value[..., 1:], c**2 / (2 * alpha))
        drawn = _with_slabs(torch.where(known, h, bernoulli(b + evidence.sum(-1))), eta)
        return torch.where(mask, value, drawn)

    def check_clamp(self, mask: Tensor, value: Tensor) -> str | None:
        h = value[..., 0]
        return "a spike is neither 0 nor 1" if (mask[..., 0] & (h != 0) & (h != 1)).any() else None

    def natural_from_mean(self, *mean: Tensor) -> tuple[Tensor, ...]:
        p, m = mean[0][..., :1].clamp(1e-3, 1 - 1e-3), mean[0][..., 1:]
        alpha = 1 / (mean[1][..., 1:] - m**2 / p).clamp_min(1e-6)
        c = alpha * m / p
        b = torch.logit(p) - (c**2 / (2 * alpha)).sum(-1, keepdim=True)
        return torch.cat([b, c], -1), torch.cat([torch.zeros_like(b), -alpha / 2], -1)

    def check(self, *eta: Tensor) -> str | None:
        square = eta[1][..., 1:]
        if (square < 0).all():
            return None
        return f"the coefficient of s² must be negative everywhere (a positive slab precision); its largest is {square.max():g}"

    def neutral(self, like: Tensor) -> tuple[Tensor, ...]:
        square = like.new_full(self.shape, -0.5)
        square[..., 0] = 0
        return like.new_zeros(self.shape), square

    def featureless(self, *eta: Tensor) -> tuple[Tensor, ...]:
        square = widest(eta[1], self.event_dim)
        return torch.zeros_like(square), square

    @property
    def states_per_atom(self) -> None:
        return None

    def atom_states(self, like: Tensor) -> Tensor:
        raise ValueError("a spike-and-slab unit has no list of states; sum it out or sample it")


def _split(eta: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """b, c and the slabs' precision."""
    return eta[0][..., 0], eta[0][..., 1:], -2 * eta[1][..., 1:]


def _logit(eta: Sequence[Tensor]) -> Tensor:
    """The log odds of the spike with its slabs integrated out."""
    b, c, alpha = _split(eta)
    return b + (c**2 / (2 * alpha)).sum(-1)


def _with_slabs(h: Tensor, eta: Sequence[Tensor]) -> Tensor:
    """The atoms with these spikes, and slabs drawn given them."""
    _, c, alpha = _split(eta)
    slabs = h.unsqueeze(-1) * c / alpha + torch.randn_like(c) / alpha.sqrt()
    # Written into place: joining parts of few entries takes three times as long.
    atoms = slabs.new_empty((*slabs.shape[:-1], 1 + slabs.shape[-1]))
    atoms[..., 0], atoms[..., 1:] = h, slabs
    return atoms
