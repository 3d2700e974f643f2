"""Columns of different families."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints

from .family import Output


class MixedOutput(Output):
    """Columns of different families, declared one by one.

    Args:
        families: the family of every column.
    """

    def __init__(self, families: Sequence[Output]) -> None:
        self.families = tuple(families)
        self.support = constraints.real if all(f.support is constraints.real for f in families) else _Columns(self)
        self.parameters = max(f.parameters for f in families)
        self.features = max(f.features for f in families)
        states = [f.states for f in families]
        self.states = None if None in states else max(s for s in states if s is not None)
        distinct = list(dict.fromkeys(families))
        self.groups = [(f, torch.tensor([i for i, other in enumerate(families) if other is f])) for f in distinct]

    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(numbers.shape[:-1], value.shape)
        by_family = [
            f.log_prob(numbers[..., i, : f.parameters], value[..., i]).expand(*shape[:-1], len(i))
            for f, i in self.groups
        ]
        return self._in_column_order(by_family)

    def sample(self, numbers: Tensor) -> Tensor:
        return self._in_column_order([f.sample(numbers[..., i, : f.parameters]) for f, i in self.groups])

    def expected(self, numbers: Tensor) -> Tensor:
        by_family = [self._padded(f.expected(numbers[..., i, : f.parameters]), self.features) for f, i in self.groups]
        return self._in_column_order(by_family, -2)

    def encode(self, value: Tensor) -> Tensor:
        return self._in_column_order([self._padded(f.encode(value[..., i]), self.features) for f, i in self.groups], -2)

    def start(self, x: Tensor) -> Tensor:
        return self._in_column_order([self._padded(f.start(x[:, i]), self.parameters) for f, i in self.groups], -2)

    def column(self, number: int) -> Output:
        return self.families[number]

    def outside(self, x: Tensor) -> Tensor:
        return self._in_column_order([f.outside(x[..., i]) for f, i in self.groups])

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        return self._in_column_order([f.centre(draws[..., i], shares) for f, i in self.groups])

    def _in_column_order(self, by_family: list[Tensor], dim: int = -1) -> Tensor:
        to_columns = torch.cat([i for _, i in self.groups]).argsort().to(by_family[0].device)
        return torch.cat(by_family, dim).index_select(dim, to_columns)

    @staticmethod
    def _padded(numbers: Tensor, size: int) -> Tensor:
        return torch.nn.functional.pad(numbers, (0, size - numbers.shape[-1]))


class _Columns(constraints.Constraint):
    """Values in the supports of their columns."""

    def __init__(self, families: Output) -> None:
        self.families = families

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self.families.states is not None

    def check(self, value: Tensor) -> Tensor:
        return ~self.families.outside(value)
