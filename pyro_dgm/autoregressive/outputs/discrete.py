"""Bits and categories."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import log_softmax, logsigmoid, one_hot

from ...native import bernoulli
from .family import Output


class BinaryOutput(Output):
    r"""Bits: $P(x_i = 1 \mid x_{<i}) = \sigma(a_i)$."""

    parameters, states, support = 1, 2, constraints.boolean

    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        return logsigmoid((2 * value - 1) * numbers.squeeze(-1))

    def sample(self, numbers: Tensor) -> Tensor:
        return bernoulli(numbers.squeeze(-1).contiguous())

    def expected(self, numbers: Tensor) -> Tensor:
        return numbers.sigmoid()

    def start(self, x: Tensor) -> Tensor:
        return torch.logit(x.mean(0), eps=1e-2).unsqueeze(-1)

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        # Shares sum to one up to rounding only.
        return super().centre(draws, shares).clamp(0, 1)


class CategoricalOutput(Output):
    r"""One of C categories, numbered from 0: $P(x_i = c \mid x_{<i}) = \mathrm{softmax}(a_i)_c$.

    A value enters the network as C indicators.

    Args:
        categories: the number of values, C.
    """

    def __init__(self, categories: int) -> None:
        self.parameters = self.features = self.states = categories
        self.support = constraints.integer_interval(0, categories - 1)

    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        table = log_softmax(numbers, -1)
        index = value.long().expand(table.shape[:-1]).unsqueeze(-1)
        return table.gather(-1, index).squeeze(-1)

    def sample(self, numbers: Tensor) -> Tensor:
        return category(numbers).to(numbers.dtype)

    def expected(self, numbers: Tensor) -> Tensor:
        return numbers.softmax(-1)

    def encode(self, value: Tensor) -> Tensor:
        return one_hot(value.long(), self.parameters).to(value.dtype)

    def start(self, x: Tensor) -> Tensor:
        share = self.encode(x).mean(0)
        return (share + 1e-2).log()

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        """The most probable category."""
        return (self.encode(draws) * shares[..., None, None]).sum(0).argmax(-1).to(draws.dtype)


def category(logits: Tensor) -> Tensor:
    """An index drawn with softmax probabilities along the last dimension."""
    noise = -torch.empty_like(logits).exponential_().log()
    return (logits + noise).argmax(-1)
