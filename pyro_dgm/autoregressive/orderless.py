"""One network for all orders of the columns: conditionals given any subset of them (Uria, Murray, Larochelle 2014)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .network import Choose, Network
from .outputs import Output


class Walk(ABC):
    """The state of a body while columns become known one after another, the same column in all rows."""

    @abstractmethod
    def numbers(self, column: int) -> Tensor:
        """The numbers of a column given those revealed so far: ``rows x P``."""

    @abstractmethod
    def reveal(self, column: int, features: Tensor) -> None:
        """Make a column known, by its features: ``rows x F``."""


class Body(nn.Module, ABC):
    """A network that gives the numbers of every column's conditional, given the columns that a mask marks as known.

    A context, always known, shifts the first layer's sums and the numbers linearly.

    Args:
        visible: the number of columns, D.
        output: the columns' families.
        context: columns of the context, C; 0 for none.

    Attributes:
        output: the columns' families.
        bias: added to every column's numbers, ``D x P``.
    """

    def __init__(self, visible: int, output: Output, context: int = 0) -> None:
        super().__init__()
        self.output = output
        self.bias = nn.Parameter(torch.zeros(visible, output.parameters))
        self.shift = shift(context, self.bias.numel())

    def biases(self, context: Tensor | None) -> Tensor:
        """The biases of every column's numbers: ``D x P``, or ``rows x D x P`` with a context."""
        if context is None or self.shift is None:
            return self.bias
        return self.bias + self.shift(context).unflatten(-1, self.bias.shape)

    @abstractmethod
    def predictions(self, features: Tensor, known: Tensor, context: Tensor | None = None) -> list[Tensor]:
        """Numbers of every column, ``rows x D x P``, after each round of inference; the last are the result.

        Args:
            features: ``rows x D x F``; unknown columns may hold anything.
            known: booleans, ``rows x D`` or ``D``.
            context: ``rows x C``; None stands for zeros.
        """

    def forward(self, features: Tensor, known: Tensor, context: Tensor | None = None) -> Tensor:
        """Numbers of every column given the known ones: ``rows x D x P``."""
        return self.predictions(features, known, context)[-1]

    def begin(self, rows: int, context: Tensor | None = None) -> Walk:
        """Start a walk along an order, with no column known; by default it takes one whole pass per column."""
        return _WholePasses(self, rows, context)

    def along(self, features: Tensor, order: Tensor, context: Tensor | None = None) -> Tensor:
        """Numbers of every column given those before it in an order: ``rows x D x F`` to ``rows x D x P``."""
        walk, numbers = self.begin(len(features), context), []
        for column in order.tolist():
            numbers.append(walk.numbers(column))
            walk.reveal(column, features[:, column])
        return torch.stack(numbers, 1)[:, order.argsort()]

    def start(self, numbers: Tensor) -> None:
        """Set the bias so that columns start independent, with these numbers, ``D x P``."""
        self.bias.copy_(numbers)


def shift(context: int, numbers: int) -> nn.Linear | None:
    """A linear map from a context to shifts of some numbers; None without a context."""
    return nn.Linear(context, numbers, bias=False) if context else None


class _WholePasses(Walk):
    def __init__(self, body: Body, rows: int, context: Tensor | None) -> None:
        self.body, self.context = body, context
        columns = len(body.bias)
        self.known = torch.zeros(columns, dtype=torch.bool, device=body.bias.device)
        self.features = body.bias.new_zeros(rows, columns, body.output.features)

    def numbers(self, column: int) -> Tensor:
        return self.body(self.features, self.known, self.context)[:, column]

    def reveal(self, column: int, features: Tensor) -> None:
        is_column = torch.arange(len(self.known), device=self.known.device) == column
        # New tensors: autograd may still need the old ones.
        self.known = self.known | is_column
        self.features = torch.where(is_column.unsqueeze(1), features.unsqueeze(1), self.features)


class OrderOfBody(Network):
    """A body's conditionals along one order of the columns.

    Args:
        body: gives the numbers for any set of known columns.
        order: the columns in the order of their conditionals.
    """

    def __init__(self, body: Body, order: Sequence[int]) -> None:
        super().__init__(order)
        self.body = body

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        if context is not None:
            context = context.expand(*features.shape[:-2], -1).reshape(-1, context.shape[-1])
        numbers = self.body.along(features.reshape(-1, *features.shape[-2:]), self.order.to(features.device), context)
        return numbers.view(*features.shape[:-1], -1)

    def walk(self, choose: Choose, output: Output, batch: int, context: Tensor | None = None) -> Tensor:
        x = self.body.bias.new_zeros(batch, len(self.order))
        walk = self.body.begin(batch, None if context is None else context.expand(batch, -1))
        for column in self.order.tolist():
            x[:, column] = choose(column, walk.numbers(column))
            walk.reveal(column, output.encode_column(column, x[:, column]))
        return x


def random_orders(visible: int, count: int, seed: int) -> list[list[int]]:
    """``count`` random orders of the columns; with the same seed a smaller count gives the first of them.

    Example:
        >>> random_orders(4, 3, seed=0)[:2] == random_orders(4, 2, seed=0)
        True
    """
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(visible, generator=generator).tolist() for _ in range(count)]
