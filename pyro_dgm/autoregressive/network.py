"""The interface of an autoregressive network: every column's numbers depend only on the columns before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .outputs import Output

Choose = Callable[[int, Tensor], Tensor]
"""A function from a column's index and its numbers, ``batch x P``, to its values, ``batch``."""


class Network(nn.Module, ABC):
    """A network that gives the numbers of every column's conditional from the columns before it in one order.

    A subclass writes ``forward`` and ``walk``; ``step_by_step`` is a walk that works for any ``forward``.

    Args:
        order: the columns in the order of their conditionals, a permutation of 0 to D - 1.

    Attributes:
        order: the order, as a tensor.
        rank: the place of every column in the order.
    """

    order: Tensor
    rank: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.set_order(order)

    def set_order(self, order: Sequence[int], device: torch.device | None = None) -> None:
        """Set another order."""
        self.register_buffer("order", torch.tensor(order, dtype=torch.long, device=device), persistent=False)
        self.register_buffer("rank", self.order.argsort(), persistent=False)

    @abstractmethod
    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        """Every column's numbers: ``batch_shape x D x F`` (and ``batch_shape x C``) to ``batch_shape x D x P``."""

    @abstractmethod
    def walk(self, choose: Choose, output: Output, batch: int, context: Tensor | None = None) -> Tensor:
        """Visit the columns in order and let ``choose`` give each its value: ``batch x D``.

        Args:
            choose: called with a column and its numbers, ``batch x P``; returns its values, ``batch``.
            output: the columns' families, which encode values for the network.
            batch: the number of rows.
            context: ``batch x C``.
        """

    def output_bias(self) -> Tensor | None:
        """The parameter added to every column's numbers, ``D x P``, or None."""
        return None


def step_by_step(network: Network, choose: Choose, output: Output, batch: int, context: Tensor | None) -> Tensor:
    """Walk along any network's order, with one pass through it per column."""
    like = next(network.parameters())
    x = like.new_zeros(batch, len(network.order))
    for column in network.order.tolist():
        x[:, column] = choose(column, network(output.encode(x), context)[:, column])
    return x


def plain_order(order: Any) -> Any:
    """Convert an order to an option that a saved run can hold: a sequence, array or tensor becomes a list of integers.

    Example:
        >>> plain_order(range(3)), plain_order(torch.tensor([1, 0])), plain_order(7)
        ([0, 1, 2], [1, 0], 7)
    """
    if hasattr(order, "tolist"):
        return order.tolist()
    if not isinstance(order, Sequence) or isinstance(order, str):
        return order
    return [i.item() if hasattr(i, "item") else i for i in order]


def check_order(order: Sequence[int] | int | None, visible: int) -> list[int]:
    """The order that an option stands for: None is left to right, a number seeds a random permutation.

    Raises:
        ValueError: a sequence that is no permutation of 0 to D - 1.

    Example:
        >>> check_order(None, 3), check_order([2, 0, 1], 3)
        ([0, 1, 2], [2, 0, 1])
    """
    order = plain_order(order)
    if order is None:
        return list(range(visible))
    if isinstance(order, int) and not isinstance(order, bool) and -(2**63) <= order < 2**64:
        return torch.randperm(visible, generator=torch.Generator().manual_seed(order)).tolist()
    columns = order if isinstance(order, list) and all(isinstance(column, int) for column in order) else None
    if columns is None or sorted(columns) != list(range(visible)):
        raise ValueError(
            f"order got {order!r}; expected a permutation of 0 to {visible - 1} (every column once), a number that seeds "
            "a random one, or None for left to right"
        )
    return columns
