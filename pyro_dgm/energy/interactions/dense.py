"""Dense couplings, between two layers and within one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...native import linear, runs_at_once
from ..units import Unit
from .interaction import Interaction, Statistics, end_of


class Dense(Interaction):
    r"""All units of one layer with all units of another: $T_a^\top W\, T_b$ (20.5).

    Args:
        first: the layer (or ``(layer, statistic index)``) of the rows of ``W``.
        second: that of the columns.
    """

    def __init__(self, first: str | tuple[str, int], second: str | tuple[str, int]) -> None:
        self.ends = (end_of(first), end_of(second))
        if self.ends[0].layer == self.ends[1].layer:
            raise ValueError(f"Dense got the layer {self.ends[0].layer!r} at both ends; use Lateral within a layer")

    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        return torch.Size(layers[end.layer].shape.numel() for end in self.ends)

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
        weight = weight if end == 1 else weight.mT
        return product(statistics[self.ends[1 - end].layer][self.ends[1 - end].statistic], weight, indices, plus)

    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        second = statistics[self.ends[1].layer][self.ends[1].statistic]
        return (self.field(1, statistics, weight) * second).sum(-1)

    def centred_gradient(self, gradient: Tensor, biases: tuple[Tensor, ...], offsets: tuple[Tensor, ...]) -> Tensor:
        return gradient.addr(offsets[0], biases[1], alpha=-1).addr_(biases[0], offsets[1], alpha=-1)

    def pairs(self, layers: Mapping[str, Unit]) -> None:
        return None


class Lateral(Interaction):
    r"""All pairs of units within one layer: $T^\top U T$ with $U$ symmetric and of zero diagonal (20.2).

    The field is $2UT$.

    Args:
        layer: the layer (or ``(layer, statistic index)``).
    """

    def __init__(self, layer: str | tuple[str, int]) -> None:
        self.ends = (end_of(layer), end_of(layer))

    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        unit = layers[self.ends[0].layer]
        self._inner = unit.shape.numel() // unit.atoms
        return torch.Size(layers[end.layer].shape.numel() for end in self.ends)

    def check(self, weight: Tensor) -> str | None:
        atom = torch.arange(weight.shape[-1], device=weight.device) // self._inner
        if (weight[..., atom[:, None] == atom] != 0).any():
            return (
                "the diagonal (the block of every atom) must be zero: a unit is not coupled to itself; "
                "put such terms into the bias"
            )
        if not torch.allclose(weight, weight.mT, rtol=1e-5, atol=1e-7):
            return "the matrix must be symmetric; pass (U + U.T) / 2"
        return None

    def field(
        self,
        end: int,
        statistics: Statistics,
        weight: Tensor,
        indices: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        return product(statistics[self.ends[0].layer][self.ends[0].statistic], 2 * weight, indices, plus)

    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        layer = statistics[self.ends[0].layer][self.ends[0].statistic]
        return (product(layer, weight) * layer).sum(-1)

    def centred_gradient(self, gradient: Tensor, biases: tuple[Tensor, ...], offsets: tuple[Tensor, ...]) -> Tensor:
        return gradient.addr(offsets[0], biases[1], alpha=-1).addr_(biases[0], offsets[1], alpha=-1)

    def pairs(self, layers: Mapping[str, Unit]) -> None:
        return None


def product(x: Tensor, weight: Tensor, indices: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
    """``x @ weight[:, indices] + plus`` for a weight with or without batch dimensions."""
    if indices is not None:
        weight = weight.index_select(-1, indices)
    if weight.dim() == 2:
        if plus is not None and plus.dim() == 1:
            return linear(x, weight, plus)
        result = linear(x, weight)
    else:
        result = torch.einsum("...i,...ij->...j", x, weight)
    if plus is None:
        return result
    own = runs_at_once() and not torch.is_grad_enabled() and plus.dtype == result.dtype
    fits = result.dim() >= plus.dim() and result.shape[result.dim() - plus.dim() :] == plus.shape
    return result.add_(plus) if own and fits else result + plus
