"""The interface of couplings of three layers or more, which can be left with fewer ends."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from ..units import Unit
from .dense import Dense, product
from .interaction import End, Interaction, Statistics, end_of

Range = tuple[Tensor, Tensor]


class Multiway(Interaction):
    """A term of -E that is linear in the statistics of three layers or more.

    Where the units at one end are given, the term is a coupling of the other ends, whose weight depends on them.
    """

    @abstractmethod
    def given(self, end: int, statistic: Tensor, weight: Tensor) -> tuple[Interaction, Tensor]:
        """The coupling of the other ends, in the same order, where the flat statistic at one end is given, and its weight:
        ``batch_shape x weight shape``."""

    @abstractmethod
    def strength(self, weight: Tensor, scales: Mapping[int, Tensor], ranges: Mapping[int, Range]) -> Tensor:
        r"""A bound on the coupling of two real-valued ends: $|I(T; W)| \le s\, |D_a T_a|\, |D_b T_b|$.

        Args:
            weight: one weight, without batch dimensions.
            scales: the diagonals of $D^{-1}$ at two ends, by their number.
            ranges: the least and the largest value of every entry at all other ends.
        """

    def centred_gradient(self, gradient: Tensor, biases: tuple[Tensor, ...], offsets: tuple[Tensor, ...]) -> Tensor:
        raise ValueError(f"the coupling of {', '.join(end.layer for end in self.ends)} has no centred form")

    def check(self, weight: Tensor) -> str | None:
        return None

    def pairs(self, layers: Mapping[str, Unit]) -> None:
        return None

    def _at(self, statistics: Statistics, end: int) -> Tensor:
        return statistics[self.ends[end].layer][self.ends[end].statistic]


class ThreeWay(Multiway):
    r"""All units of three layers with one another: $\sum_{ijk} W_{ijk}\, T_a[i]\, T_b[j]\, T_c[k]$ (20.8).

    A field contracts the weight with one of the other two layers, the one that leaves the smaller result, then with the other.

    Args:
        first: the layer (or ``(layer, statistic index)``) of the weight's first dimension.
        second: that of its second.
        third: that of its third.

    Memisevic and Hinton (2007), "Unsupervised learning of image transformations"; Nair and Hinton (2009), "Implicit
    mixtures of restricted Boltzmann machines", where one layer is a categorical unit that chooses among weights.

    Example:
        >>> from pyro_dgm.energy import Binary, Categorical, Graph, ThreeWay
        >>> layers = {"visible": Binary(5), "hidden": Binary(4), "component": Categorical(1, 3)}
        >>> Graph(layers, [ThreeWay("visible", "hidden", "component")]).weight_shapes
        (torch.Size([5, 4, 3]),)
    """

    def __init__(
        self, first: str | tuple[str, int], second: str | tuple[str, int], third: str | tuple[str, int]
    ) -> None:
        self.ends = distinct(first, second, third)

    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        return torch.Size(layers[end.layer].shape.numel() for end in self.ends)

    def field(
        self,
        end: int,
        statistics: Statistics,
        weight: Tensor,
        indices: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        if indices is not None:
            weight = weight.index_select(end - 3, indices)
        sizes = weight.shape[-3:]
        before, after = sorted((e for e in range(3) if e != end), key=lambda e: sizes[e], reverse=True)
        left = contracted(self._at(statistics, before), weight, before)
        other = self._at(statistics, after)
        # What is left has two dimensions, the two ends in their order.
        result = (other.unsqueeze(-2) @ (left if after < end else left.mT)).squeeze(-2)
        return result if plus is None else result + plus

    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        widest = max(range(3), key=lambda e: weight.shape[e - 3])
        return (self.field(widest, statistics, weight) * self._at(statistics, widest)).sum(-1)

    def given(self, end: int, statistic: Tensor, weight: Tensor) -> tuple[Interaction, Tensor]:
        first, second = (self.ends[e] for e in range(3) if e != end)
        return Dense(first, second), contracted(statistic, weight, end)

    def strength(self, weight: Tensor, scales: Mapping[int, Tensor], ranges: Mapping[int, Range]) -> Tensor:
        (other, bounds), *_ = ranges.items()
        first, second = (scales[e] for e in range(3) if e != other)
        matrix = reach(bounds, weight.movedim(other, -1))
        return torch.linalg.matrix_norm(first.unsqueeze(-1) * matrix * second, 2)


def distinct(*ends: str | tuple[str, int]) -> tuple[End, ...]:
    """Ends at layers that all differ.

    Raises:
        ValueError: a layer is named twice.
    """
    named = tuple(map(end_of, ends))
    layers = [end.layer for end in named]
    if len(set(layers)) < len(layers):
        raise ValueError(f"a coupling of several layers got {layers}; expected layers that all differ")
    return named


def contracted(statistic: Tensor, weight: Tensor, end: int) -> Tensor:
    """A three-way weight summed over one end with a statistic: ``batch_shape x the other two``."""
    moved = weight.movedim(end - 3, -3)
    return product(statistic, moved.flatten(-2)).unflatten(-1, moved.shape[-2:])


def reach(bounds: Range, weight: Tensor) -> Tensor:
    """The largest absolute value of ``weight @ x`` for entries of x between bounds."""
    low, high = (bound * weight for bound in bounds)
    return torch.maximum(torch.maximum(low, high).sum(-1), -torch.minimum(low, high).sum(-1))


def columns(sizes: tuple[int, ...], end: int) -> slice:
    """The rows of one end in a matrix that has those of all ends, one after another."""
    start = sum(sizes[:end])
    return slice(start, start + sizes[end])


def product_of(tensors: list[Tensor]) -> Tensor:
    """The elementwise product of tensors."""
    return math.prod(tensors[1:], start=tensors[0])
