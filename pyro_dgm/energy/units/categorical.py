"""Categorical units as one-hot rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from .unit import Unit


class Categorical(Unit):
    r"""One-hot rows $x_i \in \{e_1 \dots e_K\}$ with $T(x) = x$ and $A(\eta) = \log\sum_k e^{\eta_k}$.

    Args:
        shape: ``(variables, categories)``; the last dimension lies inside the atom.

    Example:
        >>> import torch
        >>> Categorical(2, 3).A(torch.zeros(2, 3))
        tensor([1.0986, 1.0986])
    """

    statistics = ("x",)
    inner_dim = 1
    support = constraints.one_hot

    def T(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    def A(self, *eta: Tensor) -> Tensor:
        return torch.logsumexp(eta[0], -1)

    def mean(self, *eta: Tensor) -> tuple[Tensor, ...]:
        return (torch.softmax(eta[0], -1),)

    def sample(self, *eta: Tensor, overwrite: bool = False) -> Tensor:
        logits = eta[0].detach()
        gumbel = -torch.empty_like(logits).exponential_().log()
        return F.one_hot((logits + gumbel).argmax(-1), logits.shape[-1]).to(logits.dtype)

    def sample_clamped(self, eta: Sequence[Tensor], mask: Tensor, value: Tensor) -> Tensor:
        # A clamped entry inside an atom rules categories out; overwriting it after the draw would break the one-hot.
        chosen = mask & (value == 1)
        excluded = torch.where(chosen.any(-1, keepdim=True), ~chosen, mask & (value == 0))
        return self.sample(torch.where(excluded, -torch.inf, eta[0]))

    def check_clamp(self, mask: Tensor, value: Tensor) -> str | None:
        ones = (mask & (value == 1)).sum(-1)
        if ((ones > 1) | (mask.all(-1) & (ones == 0))).any():
            return (
                "a row of it holds no category or several; expected one at most, and one where the whole row is known"
            )
        return None

    def natural_from_mean(self, *mean: Tensor) -> tuple[Tensor, ...]:
        smooth = 0.99 * mean[0] + 0.01 / self.shape[-1]
        return (smooth.log(),)

    def check(self, *eta: Tensor) -> str | None:
        return None

    def neutral(self, like: Tensor) -> tuple[Tensor, ...]:
        return (like.new_zeros(self.shape),)

    @property
    def states_per_atom(self) -> int:
        return self.shape[-1]

    def atom_states(self, like: Tensor) -> Tensor:
        return torch.eye(self.shape[-1], dtype=like.dtype, device=like.device)
