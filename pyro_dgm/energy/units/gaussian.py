"""Gaussian units on the real line."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from .unit import ScalarUnit


class Gaussian(ScalarUnit):
    r"""Units $x_i \in \mathbb{R}$ with $T(x) = (x, x^2)$ and natural parameters $(\beta\mu, -\beta/2)$ (20.38-39).

    $A(\eta) = -\eta_1^2 / 4\eta_2 + \tfrac12 \log(\pi / -\eta_2)$, for $\eta_2 < 0$ alone.

    Args:
        shape: the event shape of the layer.

    Example:
        >>> import torch
        >>> Gaussian(1).mean(torch.tensor([2.0]), torch.tensor([-0.5]))
        (tensor([2.]), tensor([5.]))
    """

    statistics = ("x", "x2")
    support = constraints.real
    degrees = (1, 2)

    def T(self, x: Tensor) -> tuple[Tensor, ...]:
        return x, x * x

    def A(self, *eta: Tensor) -> Tensor:
        return -(eta[0] ** 2) / (4 * eta[1]) + 0.5 * (math.log(math.pi) - torch.log(-eta[1]))

    def mean(self, *eta: Tensor) -> tuple[Tensor, ...]:
        variance = -0.5 / eta[1]
        location = eta[0] * variance
        return location, location**2 + variance

    def sample(self, *eta: Tensor, overwrite: bool = False) -> Tensor:
        variance = -0.5 / eta[1].detach()
        location = eta[0].detach() * variance
        return location + variance.sqrt() * torch.randn_like(location)

    def natural_from_mean(self, *mean: Tensor) -> tuple[Tensor, ...]:
        variance = (mean[1] - mean[0] ** 2).clamp_min(1e-6)
        return mean[0] / variance, -0.5 / variance

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
