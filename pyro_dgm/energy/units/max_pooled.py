"""Regions of independent binary units with a pooling unit that is their maximum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from ...native import bernoulli
from .unit import Unit

LISTED = 16
"""The most detectors of a region whose 2^n states are listed."""


class MaxPooled(Unit):
    r"""Regions of n detectors $d_i \in \{0, 1\}$ and of their maximum p, with $T(d) = (d, \max_i d_i)$ (20.6).

    Let $z_i$ be the fields of the detectors and t that of the maximum. The sum over the $2^n$ states has a closed form,
    whose terms are sorted by the first detector that is on:

    $$A(z, t) = \log\Big(1 + \sum_i e^{t + z_i} \prod_{j > i} (1 + e^{z_j})\Big)
      = \log\big(1 + e^t ({\textstyle\prod_i (1 + e^{z_i})} - 1)\big).$$

    Probabilistic max pooling (``AtMostOne``) is another model: there at most one detector of a region is on.

    Args:
        shape: the regions, then the detectors of one: the last dimension lies inside the atom. The second statistic has this
            shape too, with the maximum as the first entry of a region and zeros after it.

    Example:
        >>> import torch
        >>> MaxPooled(1, 4).A(torch.zeros(1, 4), torch.zeros(1, 4)).exp()
        tensor([16.])
    """

    statistics = ("d", "max")
    inner_dim = 1
    pooled = True
    switches = slice(None)
    support = constraints.independent(constraints.boolean, 1)

    def T(self, x: Tensor) -> tuple[Tensor, ...]:
        return x, _first(x.amax(-1), x)

    def A(self, *eta: Tensor) -> Tensor:
        return F.softplus(torch.logsumexp(_first_on(eta), -1))

    def mean(self, *eta: Tensor) -> tuple[Tensor, ...]:
        first = torch.softmax(F.pad(_first_on(eta), (0, 1)), -1)[..., :-1]
        earlier = first.cumsum(-1) - first
        return first + earlier * torch.sigmoid(eta[0]), _first(first.sum(-1), first)

    def sample(self, *eta: Tensor, overwrite: bool = False) -> Tensor:
        z = eta[0].detach().expand(torch.broadcast_shapes(eta[0].shape, eta[1].shape))
        logits = F.pad(_first_on(tuple(e.detach() for e in eta)), (0, 1))
        chosen = (logits - torch.empty_like(logits).exponential_().log()).argmax(-1, keepdim=True)
        place = torch.arange(z.shape[-1], device=z.device)
        return torch.where(place > chosen, bernoulli(z.contiguous()), (place == chosen).to(z.dtype))

    def sample_clamped(self, eta: Sequence[Tensor], mask: Tensor, value: Tensor) -> Tensor:
        """Draw regions in which detectors that are known off cannot be the maximum, and one known on decides it."""
        z = torch.where(mask & (value == 0), -torch.inf, eta[0])
        known_on = mask & (value == 1)
        free = torch.where(known_on, 1.0, bernoulli(z.contiguous()))
        return torch.where(known_on.any(-1, keepdim=True), free, self.sample(z, eta[1]))

    def natural_from_mean(self, *mean: Tensor) -> tuple[Tensor, ...]:
        r"""Detectors are on with $\sigma(z_i) = c\,E[d_i] / E[p]$, where c solves $c = 1 - \prod_i (1 - \sigma(z_i))$."""
        pool = mean[1][..., :1].clamp(1e-3, 1 - 1e-3)
        # No mean of a detector exceeds the maximum's, and their sum is no smaller than it.
        share = (mean[0] / pool).clamp(1e-3, 1 - 1e-3)
        share = share * (1.001 / share.sum(-1, keepdim=True)).clamp_min(1.0)
        low, high = torch.zeros_like(pool), torch.ones_like(pool)
        for _ in range(40):
            middle = (low + high) / 2
            enough = 1 - (1 - middle * share).prod(-1, keepdim=True) > middle
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        z = torch.logit(high * share, eps=1e-6)
        any_on = (F.softplus(z).sum(-1)).expm1().clamp_min(1e-6).log()
        return z, _first(torch.logit(pool.squeeze(-1)) - any_on, z)

    def check(self, *eta: Tensor) -> str | None:
        return None

    def neutral(self, like: Tensor) -> tuple[Tensor, ...]:
        return like.new_zeros(self.shape), like.new_zeros(self.shape)

    @property
    def states_per_atom(self) -> int:
        return int(2 ** self.shape[-1])

    def atom_states(self, like: Tensor) -> Tensor:
        width = self.shape[-1]
        if width > LISTED:
            raise ValueError(f"a region of {width} detectors has 2^{width} states; at most 2^{LISTED} are listed")
        numbers = torch.arange(2**width, device=like.device)
        return ((numbers[:, None] >> torch.arange(width, device=like.device)) & 1).to(like.dtype)


def _first(maximum: Tensor, like: Tensor) -> Tensor:
    """A number of every region as its first entry, with zeros after it."""
    return F.pad(maximum.unsqueeze(-1), (0, like.shape[-1] - 1))


def _first_on(eta: tuple[Tensor, ...]) -> Tensor:
    """The log-weight of every detector's being the first that is on, where all being off has weight one."""
    later = F.softplus(eta[0])
    after = later.flip(-1).cumsum(-1).flip(-1) - later
    return eta[1][..., :1] + eta[0] + after
