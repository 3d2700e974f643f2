"""A layer of bits, each of which may depend on those before it (DARN's layers)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import Bernoulli, TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid, softplus

from ..energy.support import in_support
from ..native import bernoulli, bit_log_probs


class AutoregressiveBits(TorchDistribution):
    r"""Bits with $P(s_i = 1 \mid s_{<i}) = \sigma(a_i + \sum_{j<i} U_{ij} s_j)$ (20.70; Gregor et al. 2014).

    Log-probabilities take one matrix product; draws go unit by unit. Without ``within`` the bits are independent and are all
    drawn in one step. The conditionals are those of ``dgm.FVBN`` with biases that the caller gives for every row: a layer
    inside a network, in the order of its units and without parameters.

    Args:
        logits: $a$, ``batch_shape x units``.
        within: $U$, ``units x units``, of which only the part below the diagonal is used; or None.

    Raises:
        ValueError: ``within`` does not fit, or logits are NaN.

    Example:
        >>> import torch
        >>> AutoregressiveBits(torch.zeros(2, 3), torch.ones(3, 3)).log_prob(torch.zeros(2, 3)).shape
        torch.Size([2])
    """

    arg_constraints = {"logits": constraints.real_vector}
    support = constraints.independent(constraints.boolean, 1)

    def __init__(self, logits: Tensor, within: Tensor | None = None, validate_args: bool | None = None) -> None:
        units = logits.shape[-1]
        if within is not None and within.shape != (units, units):
            raise ValueError(f"within got shape {tuple(within.shape)}; expected {units} x {units}")
        self.logits = logits
        self.lower = None if within is None else within.tril(-1)
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)
        self._validate_args = type(self)._validate_args if validate_args is None else validate_args
        # One pass instead of the two of ``real_vector``: a NaN shows in the sum (as do infinities of both signs).
        if self._validate_args and bool(logits.detach().sum().isnan()) and bool(logits.isnan().any()):
            raise ValueError("logits got NaN; look for parameters that became NaN (a smaller learning rate)")

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> AutoregressiveBits:
        other = object.__new__(AutoregressiveBits)
        other.logits, other.lower = self.logits.expand(*batch_shape, *self.event_shape), self.lower
        TorchDistribution.__init__(other, torch.Size(batch_shape), self.event_shape, validate_args=False)
        other._validate_args = self._validate_args
        return other

    def log_prob(self, value: Tensor) -> Tensor:
        # Bits of the right shape are their own squares; they need no full validation.
        if self._validate_args and not (value.shape[-1:] == self.event_shape and in_support(self.support, value)):
            self._validate_sample(value)
        a = self._fields(value)
        by_row = bit_log_probs(a, value)
        if by_row is not None:
            return by_row
        # log sigma(a) for a one, log sigma(-a) for a zero, in one pass.
        return logsigmoid((2 * value - 1) * a).sum(-1)

    def table(self, rows: Tensor) -> Tensor:
        r"""$\log P$ of each of some rows under each of a list of logits: ``rows x batch``.

        Independent bits take one product of matrices, $\sum_i x_i a_i - \sum_i \log(1 + e^{a_i})$.
        """
        if self.lower is None:
            return rows @ self.logits.t() - softplus(self.logits).sum(-1)
        return self.log_prob(rows.unsqueeze(1))

    def _fields(self, value: Tensor) -> Tensor:
        return self.logits if self.lower is None else self.logits + value @ self.lower.t()

    def conditionals(self, value: Tensor) -> Bernoulli:
        r"""$P(s_i \mid s_{<i})$ of every bit with the bits of ``value`` before it: ``batch_shape x units``."""
        return Bernoulli(logits=self._fields(value))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        a = self.logits.expand(*sample_shape, *self.logits.shape)
        if self.lower is None:
            return bernoulli(a.contiguous())
        a, drawn = a.clone(), torch.empty_like(a)
        for unit in range(a.shape[-1]):
            bit = bernoulli(a[..., unit].contiguous())
            drawn[..., unit] = bit
            a.add_(bit.unsqueeze(-1) * self.lower[:, unit])
        return drawn

    @torch.no_grad()
    def redraw(self, value: Tensor, known: Tensor) -> Tensor:
        r"""One sweep of Gibbs sampling over the unknown bits, each given all others.

        $\log P(s_i = 1 \mid s_{\ne i}) - \log P(s_i = 0 \mid s_{\ne i})$ is $a_i + \sum_{j<i} U_{ij} s_j$ and what the later bits
        make of it. Independent bits are drawn in one step.

        Args:
            value: bits, ``batch_shape x units``.
            known: booleans that say which stay, of the same shape.
        """
        if self.lower is None:
            return torch.where(known, value, self.sample())
        value, fields, changes = value.clone(), self._fields(value), (~known).flatten(0, -2).any(0)
        for unit in changes.nonzero().flatten().tolist():
            old, effect, sign = value[..., unit], self.lower[unit + 1 :, unit], 2 * value[..., unit + 1 :] - 1
            zero = fields[..., unit + 1 :] - old.unsqueeze(-1) * effect
            later = logsigmoid(sign * (zero + effect)) - logsigmoid(sign * zero)
            drawn = bernoulli((fields[..., unit] + later.sum(-1)).contiguous())
            value[..., unit] = torch.where(known[..., unit], old, drawn)
            fields[..., unit + 1 :] = zero + value[..., unit].unsqueeze(-1) * effect
        return value

    @property
    def mean(self) -> Tensor:
        """The probabilities of the bits, where they are independent.

        Raises:
            NotImplementedError: the bits depend on one another.
        """
        if self.lower is not None:
            raise NotImplementedError("autoregressive bits have no mean in closed form; average draws")
        return torch.sigmoid(self.logits)
