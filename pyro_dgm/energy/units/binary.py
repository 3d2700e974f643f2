"""Binary units in {0, 1}."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from ...native import bernoulli, bit_log_probs
from .unit import ScalarUnit


class Binary(ScalarUnit):
    r"""Units $x_i \in \{0, 1\}$ with $T(x) = x$, $A(\eta) = \log(1 + e^\eta)$ and mean $\sigma(\eta)$ (20.7-16).

    Args:
        shape: the event shape of the layer.

    Example:
        >>> import torch
        >>> Binary(3).mean(torch.zeros(3))
        (tensor([0.5000, 0.5000, 0.5000]),)
    """

    statistics = ("x",)
    support = constraints.boolean
    switches = slice(None)

    def T(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    def A(self, *eta: Tensor) -> Tensor:
        return F.softplus(eta[0])

    def summed_A(self, dims: int, *eta: Tensor) -> Tensor:
        logits = eta[0] if dims == 1 else eta[0].flatten(-dims)
        log_p_of_zeros = bit_log_probs(logits, logits.new_zeros(logits.shape[-1])) if logits.dim() > 1 else None
        return super().summed_A(dims, *eta) if log_p_of_zeros is None else -log_p_of_zeros

    def mean(self, *eta: Tensor) -> tuple[Tensor, ...]:
        return (torch.sigmoid(eta[0]),)

    def sample(self, *eta: Tensor, overwrite: bool = False) -> Tensor:
        return bernoulli(eta[0], overwrite)

    def natural_from_mean(self, *mean: Tensor) -> tuple[Tensor, ...]:
        return (torch.logit(mean[0], eps=1e-3),)

    def check(self, *eta: Tensor) -> str | None:
        return None

    def neutral(self, like: Tensor) -> tuple[Tensor, ...]:
        return (like.new_zeros(self.shape),)

    @property
    def states_per_atom(self) -> int:
        return 2

    def atom_states(self, like: Tensor) -> Tensor:
        return like.new_tensor([0.0, 1.0])
