"""Regions of binary units of which at most one is on: probabilistic max pooling."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import constraints

from .unit import Unit


class AtMostOne(Unit):
    r"""Regions of n detectors $d_i \in \{0, 1\}$ with $\sum_i d_i \le 1$ and $T(d) = d$ (20.6).

    $A(\eta) = \log(1 + \sum_i e^{\eta_i})$, so that a region has n + 1 states. Its pooling unit is
    $p = \max_i d_i = \sum_i d_i$, which is linear in the detectors and needs no statistic of its own.

    Args:
        shape: the regions, then the detectors of one: the last dimension lies inside the atom.

    Lee, Grosse, Ranganath and Ng (2009), "Convolutional deep belief networks for scalable unsupervised learning of
    hierarchical representations".

    Example:
        >>> import torch
        >>> AtMostOne(1, 4).mean(torch.zeros(1, 4))
        (tensor([[0.2000, 0.2000, 0.2000, 0.2000]]),)
    """

    statistics = ("x",)
    inner_dim = 1
    pooled = True
    switches = slice(None)

    class _Support(constraints.Constraint):
        is_discrete = True
        event_dim = 1

        def check(self, value: Tensor) -> Tensor:
            return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) <= 1)

    support = _Support()

    def T(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    def A(self, *eta: Tensor) -> Tensor:
        largest, weights = _weights(eta[0])
        return largest + sum(weights, start=(-largest).exp()).log()

    def mean(self, *eta: Tensor) -> tuple[Tensor, ...]:
        largest, weights = _weights(eta[0])
        total = sum(weights, start=(-largest).exp())
        return (torch.stack([weight / total for weight in weights], -1),)

    @staticmethod
    def pooled_mean(mean: Tensor) -> Tensor:
        """P(p = 1) from the means of the detectors, which lie along the last dimension; one at most, whatever rounding adds."""
        return mean.sum(-1).clamp(max=1.0)

    def sample(self, *eta: Tensor, overwrite: bool = False) -> Tensor:
        z = eta[0].detach()
        largest, sums = _weights(z)
        for before, after in pairwise(sums):
            after += before
        number = torch.rand_like(largest).mul_(sums[-1] + largest.neg_().exp_())
        # Sums of weights never fall along a region, so that the first one above the number is the only detector on.
        above = [number < weight for weight in sums]
        drawn = torch.empty_like(z, memory_format=torch.contiguous_format)
        for place, (before, now) in zip(drawn.unbind(-1), pairwise([torch.zeros_like(above[0]), *above]), strict=True):
            place.copy_(now > before)
        return drawn

    def sample_clamped(self, eta: Sequence[Tensor], mask: Tensor, value: Tensor) -> Tensor:
        known_on = mask & (value == 1)
        drawn = self.sample(torch.where(mask & (value == 0), -torch.inf, eta[0]))
        return torch.where(known_on.any(-1, keepdim=True), known_on.to(drawn.dtype), drawn)

    def check_clamp(self, mask: Tensor, value: Tensor) -> str | None:
        if ((mask & (value == 1)).sum(-1) > 1).any():
            return "a region of it has several detectors on; expected one at most"
        return None

    def natural_from_mean(self, *mean: Tensor) -> tuple[Tensor, ...]:
        smooth = 0.99 * mean[0] + 0.01 / (1 + self.shape[-1])
        return (smooth.log() - (1 - smooth.sum(-1, keepdim=True)).log(),)

    def check(self, *eta: Tensor) -> str | None:
        return None

    def neutral(self, like: Tensor) -> tuple[Tensor, ...]:
        return (like.new_zeros(self.shape),)

    @property
    def states_per_atom(self) -> int:
        return self.shape[-1] + 1

    def atom_states(self, like: Tensor) -> Tensor:
        return torch.eye(self.shape[-1] + 1, self.shape[-1], dtype=like.dtype, device=like.device).flip(0)


def _weights(z: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The largest field of every region, or 0, and the weights of its detectors relative to it, one tensor per place.

    Loops along a region would be short ones: the work goes place by place.
    """
    places = z.unbind(-1)
    largest = functools.reduce(torch.maximum, [place.detach() for place in places]).clamp_min(0.0)
    return largest, [(place - largest).exp() for place in places]
