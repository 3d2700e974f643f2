"""A network without hidden units: a column's numbers depend on no other column."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .network import Choose, Network
from .outputs import Output


class Separate(Network):
    r"""Numbers $b_i + B_i c$ of every column from a context c alone, so that the columns are independent given it.

    Args:
        order: the columns in the order of their conditionals, which makes no difference.
        parameters: numbers that the network gives for a column, P.
        context: columns of the context, C.

    Attributes:
        bias: b, ``D x P``.
        context: B, a linear layer.
    """

    def __init__(self, order: Sequence[int], parameters: int, context: int) -> None:
        super().__init__(order)
        self.bias = nn.Parameter(torch.zeros(len(order), parameters))
        self.context = nn.Linear(context, len(order) * parameters, bias=False)

    def _numbers(self, context: Tensor | None) -> Tensor:
        return self.bias + self.context(context).unflatten(-1, self.bias.shape)

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        return self._numbers(context).expand(*features.shape[:-1], -1)

    @torch.no_grad()
    def walk(self, choose: Choose, output: Output, batch: int, context: Tensor | None = None) -> Tensor:
        numbers = self._numbers(context).expand(batch, -1, -1)
        x = numbers.new_zeros(batch, len(self.order))
        for column in self.order.tolist():
            x[:, column] = choose(column, numbers[:, column])
        return x
