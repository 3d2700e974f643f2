"""Ising spins in {-1, 1}."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from ...native import bernoulli
from .unit import ScalarUnit


class _Spins(constraints.Constraint):
    """Values -1 and 1."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return value.abs() == 1


class Spin(ScalarUnit):
    r"""Units $x_i \in \{-1, 1\}$ with $T(x) = x$, $A(\eta) = \log 2\cosh\eta$ and mean $\tanh\eta$.

    Args:
        shape: the event shape of the layer.

    Example:
        >>> import torch
        >>> Spin(2).A(torch.zeros(2))
        tensor([0.6931, 0.6931])
    """

    statistics = ("x",)
    support = _Spins()

    def T(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    def A(self, *eta: Tensor) -> Tensor:
        return eta[0].abs() + F.softplus(-2 * eta[0].abs())

    def mean(self, *eta: Tensor) -> tuple[Tensor, ...]:
        return (torch.tanh(eta[0]),)

    def sample(self, *eta: Tensor, overwrite: bool = False) -> Tensor:
        return bernoulli(2 * eta[0], overwrite=True).mul_(2).sub_(1)

    def natural_from_mean(self, *mean: Tensor) -> tuple[Tensor, ...]:
        return (torch.atanh(mean[0].clamp(-1 + 2e-3, 1 - 2e-3)),)

    def check(self, *eta: Tensor) -> str | None:
        return None

    def neutral(self, like: Tensor) -> tuple[Tensor, ...]:
        return (like.new_zeros(self.shape),)

    @property
    def states_per_atom(self) -> int:
        return 2

    def atom_states(self, like: Tensor) -> Tensor:
        return like.new_tensor([-1.0, 1.0])
