"""Gaussian units on the real line."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from torch.distributions import constraints

from ...columns import CONSTANT, location_and_variance
from .unit import ScalarUnit, widest


class Gaussian(ScalarUnit):
    r"""Units $x_i \in \mathbb{R}$ with $T(x) = (x, (x - o)^2)$ and natural parameters $(\beta(\mu - o), -\beta/2)$ (20.38-39).

    $A(\eta) = o\,\eta_1 - \eta_1^2 / 4\eta_2 + \tfrac12 \log(\pi / -\eta_2)$, for $\eta_2 < 0$ alone. The origin o is zero, or
    what ``at`` says: a constant near the data, so that no square of a large number is taken. Another origin adds a constant
    to the energies, and changes no probability.

    Args:
        shape: the event shape of the layer.

    Attributes:
        origin: o, of the layer's shape (with batch dimensions, if the parameters have them), or None for zero.

    Example:
        >>> import torch
        >>> Gaussian(1).mean(torch.tensor([2.0]), torch.tensor([-0.5]))
        (tensor([2.]), tensor([5.]))
        >>> Gaussian(1).at(torch.tensor([100.0])).mean(torch.tensor([2.0]), torch.tensor([-0.5]))
        (tensor([102.]), tensor([5.]))
    """

    statistics = ("x", "x2")
    support = constraints.real
    degrees = (1, 2)
    origin: Tensor | None = None

    def at(self, origin: Tensor) -> Gaussian:
        """The same units with squares about another origin."""
        if origin.shape[origin.dim() - self.event_dim :] != self.shape:
            raise ValueError(
                f"origin got shape {tuple(origin.shape)}; expected {tuple(self.shape)}, that of the layer, at its end"
            )
        other = copy.copy(self)
        other.origin = origin.detach()
        return other

    def about(self, location: Tensor) -> Gaussian:
        return self.at(location)

    def real_from_origin(self, offset: Tensor) -> Tensor:
        return offset if self.origin is None else self.origin + offset

    def T(self, x: Tensor) -> tuple[Tensor, ...]:
        return x, self._offset(x).square()

    def A(self, *eta: Tensor) -> Tensor:
        centred = -(eta[0] ** 2) / (4 * eta[1]) + 0.5 * (math.log(math.pi) - torch.log(-eta[1]))
        return centred if self.origin is None else torch.addcmul(centred, self.origin, eta[0])

    def mean(self, *eta: Tensor) -> tuple[Tensor, ...]:
        variance = -0.5 / eta[1]
        offset = eta[0] * variance
        return self.real_from_origin(offset), offset**2 + variance

    def sample(self, *eta: Tensor, overwrite: bool = False) -> Tensor:
        variance = -0.5 / eta[1].detach()
        offset = eta[0].detach() * variance
        return self.real_from_origin(offset + variance.sqrt() * torch.randn_like(offset))

    def natural_from_mean(self, *mean: Tensor) -> tuple[Tensor, ...]:
        variance = self.variance(*mean).clamp_min(CONSTANT)
        return self._offset(mean[0]) / variance, -0.5 / variance

    def variance(self, *mean: Tensor) -> Tensor:
        """The variances, from means of the statistics."""
        return mean[1] - self._offset(mean[0]).square()

    def natural_from_rows(self, x: Tensor) -> tuple[Tensor, ...]:
        location, variance = location_and_variance(x)
        return self._offset(location) / variance, -0.5 / variance

    def featureless(self, *eta: Tensor) -> tuple[Tensor, ...]:
        square = widest(eta[1], self.event_dim)
        return torch.zeros_like(square), square

    def no_narrower(self, eta: tuple[Tensor, ...], than: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        square = torch.maximum(eta[1], than[1])
        return eta[0] / eta[1] * square, square

    def _offset(self, x: Tensor) -> Tensor:
        return x if self.origin is None else x - self.origin

    def check(self, *eta: Tensor) -> str | None:
        if ((eta[1] < 0) & eta[1].isfinite()).all():
            return None
        return (
            "the coefficient of x² must be negative and finite everywhere (a positive precision); it reaches from "
            f"{eta[1].min():g} to {eta[1].max():g}"
        )

    def neutral(self, like: Tensor) -> tuple[Tensor, ...]:
        return like.new_zeros(self.shape), like.new_full(self.shape, -0.5)

    @property
    def states_per_atom(self) -> None:
        return None

    def atom_states(self, like: Tensor) -> Tensor:
        raise ValueError("a Gaussian unit has no list of states; sum it out or sample it")
