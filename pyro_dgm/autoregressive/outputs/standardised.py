"""Real columns in their own units, around any family."""

from __future__ import annotations

import torch
from torch import Tensor

from ...nets.scaling import ColumnScaling
from .family import Output


class StandardisedOutput(Output):
    r"""A family that reads standardised columns, $z = (x - m) / s$, as the distribution of columns in their own units.

    $\log p(x) = \log p_z(z) - \log s$. The network sees z, and its numbers are those of z. Columns that are not real have
    $m = 0$ and $s = 1$.

    Args:
        inner: the family.
        scaling: m and s of every column.
    """

    scaling: ColumnScaling

    def __init__(self, inner: Output, scaling: ColumnScaling) -> None:
        self.inner, self.scaling = inner, scaling
        self.parameters, self.features, self.states = inner.parameters, inner.features, inner.states
        self.support, self.spread, self.least_squares = inner.support, inner.spread, inner.least_squares

    def standardise(self, x: Tensor) -> None:
        real = torch.tensor([self.inner.column(i).states is None for i in range(x.shape[1])])
        self.scaling.fit(x, real)

    def standardised(self, x: Tensor) -> Tensor:
        return self.scaling(x)

    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        return self.inner.log_prob(numbers, self.scaling(value)) - self.scaling.scale.log()

    def sample(self, numbers: Tensor) -> Tensor:
        return self.scaling.back(self.inner.sample(numbers))

    def expected(self, numbers: Tensor) -> Tensor:
        return self.inner.expected(numbers)

    def encode(self, value: Tensor) -> Tensor:
        return self.inner.encode(self.scaling(value))

    def start(self, x: Tensor) -> Tensor:
        return self.inner.start(self.scaling(x))

    def column(self, number: int) -> Output:
        return StandardisedOutput(self.inner.column(number), _OneColumn(self.scaling, number))

    def outside(self, x: Tensor) -> Tensor:
        return self.inner.outside(x)

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        return self.inner.centre(draws, shares)


def in_own_units(family: Output, columns: int) -> Output:
    """The family with a scaling for its real columns; the family itself where it has none."""
    if all(family.column(number).states is not None for number in range(columns)):
        return family
    return StandardisedOutput(family, ColumnScaling(columns))


class _OneColumn(ColumnScaling):
    """The scaling of one column of others, which it reads."""

    def __init__(self, columns: ColumnScaling, number: int) -> None:
        torch.nn.Module.__init__(self)
        self.mean, self.scale = columns.mean[number : number + 1], columns.scale[number : number + 1]
