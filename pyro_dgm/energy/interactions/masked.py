"""Couplings unit by unit, and dense couplings that a mask switches unit by unit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..units import Unit
from .dense import Dense, product
from .interaction import Interaction, Statistics, end_of
from .multiway import Multiway, Range, distinct


class Elementwise(Interaction):
    r"""Every unit of one layer with its own unit of another: $\sum_i T_a[i] \sum_r W_{ir}\, T_b[i, r]$ (20.8).

    Args:
        first: a layer (or ``(layer, statistic index)``) without inner entries.
        second: a layer of as many units, which may have inner entries r, as a categorical one has.
    """

    def __init__(self, first: str | tuple[str, int], second: str | tuple[str, int]) -> None:
        self.ends = (end_of(first), end_of(second))
        if self.ends[0].layer == self.ends[1].layer:
            raise ValueError(f"Elementwise got the layer {self.ends[0].layer!r} at both ends; expected two layers")

    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        self._inner = _inner(layers, self.ends[0].layer, self.ends[1].layer)
        return torch.Size([layers[self.ends[1].layer].shape.numel()])

    def check(self, weight: Tensor) -> str | None:
        return None

    def field(
        self,
        end: int,
        statistics: Statistics,
        weight: Tensor,
        indices: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        other = statistics[self.ends[1 - end].layer][self.ends[1 - end].statistic]
        if end:
            result = other.repeat_interleave(self._inner, -1) * weight
        else:
            result = (other * weight).unflatten(-1, (-1, self._inner)).sum(-1)
        if indices is not None:
            result = result.index_select(-1, indices)
        return result if plus is None else result + plus

    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        first = statistics[self.ends[0].layer][self.ends[0].statistic]
        return (self.field(0, statistics, weight) * first).sum(-1)

    def centred_gradient(self, gradient: Tensor, biases: tuple[Tensor, ...], offsets: tuple[Tensor, ...]) -> Tensor:
        first_bias, first_offset = (t.repeat_interleave(self._inner, -1) for t in (biases[0], offsets[0]))
        return gradient - first_offset * biases[1] - first_bias * offsets[1]

    def pairs(self, layers: Mapping[str, Unit]) -> None:
        return None

    def beside(self, first: str, second: str) -> bool:
        return {first, second} == {end.layer for end in self.ends}


class Masked(Multiway):
    r"""A dense coupling whose rows a mask switches: $\sum_i T_a[i]\, T_m[i, r] \sum_j W_{ij}\, T_b[j]$ (20.8).

    Args:
        first: the layer (or ``(layer, statistic index)``) of the rows of W, without inner entries.
        mask: a layer of as many units; where its units have inner entries, r is the one that switches.
        second: the layer of the columns of W.
        inner: the inner entry of the mask that switches, r.

    Sohn, Zhou, Lee and Lee (2013), "Learning and selecting features jointly with point-wise gated Boltzmann machines".

    Example:
        >>> from pyro_dgm.energy import Binary, Categorical, Graph, Masked
        >>> layers = {"visible": Binary(6), "mask": Categorical(6, 2), "one": Binary(3), "two": Binary(4)}
        >>> groups = [Masked("visible", "mask", name, inner=r) for r, name in enumerate(("one", "two"))]
        >>> Graph(layers, groups).weight_shapes
        (torch.Size([6, 3]), torch.Size([6, 4]))
    """

    def __init__(
        self,
        first: str | tuple[str, int],
        mask: str | tuple[str, int],
        second: str | tuple[str, int],
        inner: int = 0,
    ) -> None:
        self.ends = distinct(first, mask, second)
        self.inner = inner

    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        first, mask, second = (end.layer for end in self.ends)
        self._inner = _inner(layers, first, mask)
        if self.inner not in range(self._inner):
            raise ValueError(f"inner got {self.inner!r}; layer {mask!r} has inner entries 0 to {self._inner - 1}")
        return torch.Size([layers[first].shape.numel(), layers[second].shape.numel()])

    def _switch(self, statistics: Statistics) -> Tensor:
        return self._at(statistics, 1)[..., self.inner :: self._inner]

    def _spread(self, switch: Tensor) -> Tensor:
        """A field of the switches as one of all inner entries."""
        if self._inner == 1:
            return switch
        return torch.stack(
            [switch if r == self.inner else torch.zeros_like(switch) for r in range(self._inner)], -1
        ).flatten(-2)

    def field(
        self,
        end: int,
        statistics: Statistics,
        weight: Tensor,
        indices: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        if end == 2:
            result = product(self._at(statistics, 0) * self._switch(statistics), weight)
        else:
            reached = product(self._at(statistics, 2), weight.mT)
            result = reached * self._switch(statistics) if end == 0 else self._spread(reached * self._at(statistics, 0))
        if indices is not None:
            result = result.index_select(-1, indices)
        return result if plus is None else result + plus

    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        return (self.field(2, statistics, weight) * self._at(statistics, 2)).sum(-1)

    def given(self, end: int, statistic: Tensor, weight: Tensor) -> tuple[Interaction, Tensor]:
        first, mask, second = self.ends
        if end == 2:
            return Elementwise(first, mask), self._spread(product(statistic, weight.mT))
        if end == 1:
            return Dense(first, second), statistic[..., self.inner :: self._inner].unsqueeze(-1) * weight
        return Dense(mask, second), self._spread((statistic.unsqueeze(-1) * weight).mT).mT

    def beside(self, first: str, second: str) -> bool:
        return {first, second} == {end.layer for end in self.ends[:2]}

    def strength(self, weight: Tensor, scales: Mapping[int, Tensor], ranges: Mapping[int, Range]) -> Tensor:
        if 1 in scales:
            return weight.new_tensor(torch.inf)
        low, high = (bound[self.inner :: self._inner].abs() for bound in ranges[1])
        matrix = weight.abs() * torch.maximum(low, high).unsqueeze(-1)
        return torch.linalg.matrix_norm(scales[0].unsqueeze(-1) * matrix * scales[2], 2)


def _inner(layers: Mapping[str, Unit], first: str, second: str) -> int:
    """The number of inner entries of the second layer's units, which stand one beside every unit of the first."""
    units, others = layers[first], layers[second]
    if units.inner_dim or units.atoms != others.atoms:
        raise ValueError(
            f"layer {second!r} is {others!r} and layer {first!r} is {units!r}; expected as many units in both, without inner "
            f"entries in {first!r}"
        )
    return others.shape.numel() // others.atoms
