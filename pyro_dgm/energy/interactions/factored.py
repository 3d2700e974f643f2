"""Couplings through factors: products of one linear projection of every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...checks import check_count, shown
from ..units import Unit
from .dense import product
from .interaction import End, Interaction, Statistics
from .multiway import Multiway, Range, columns, distinct, product_of, reach


class Factored(Multiway):
    r"""Layers coupled through F factors: $\sum_f \prod_e \langle T_e, W^e_f \rangle$ (20.8).

    With three ends it is the factored gated machine, whose tensor $\sum_f W^a_{if} W^b_{jf} W^c_{kf}$ is never made; with two
    it is a coupling of rank F. The weight holds the ends' matrices one below another: $\sum_e n_e \times F$.

    Args:
        ends: two layers or more (each a name or ``(layer, statistic index)``).
        factors: the number of factors, F.

    Memisevic and Hinton (2010), "Learning to represent spatial transformations with factored higher-order Boltzmann machines".

    Example:
        >>> from pyro_dgm.energy import Binary, Factored, Graph
        >>> layers = {"output": Binary(6), "input": Binary(6), "hidden": Binary(4)}
        >>> Graph(layers, [Factored(["input", "output", "hidden"], factors=3)]).weight_shapes
        (torch.Size([16, 3]),)
    """

    def __init__(self, ends: Sequence[str | tuple[str, int]], factors: int) -> None:
        if not isinstance(ends, list | tuple) or len(ends) < 2:
            raise ValueError(f"Factored got the ends {shown(ends)}; expected two layers or more, as in ['a', 'b', 'c']")
        self.ends = distinct(*ends)
        self.factors = check_count("factors", factors, what="the number of factors")

    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        self._sizes = tuple(layers[end.layer].shape.numel() for end in self.ends)
        return torch.Size([sum(self._sizes), self.factors])

    def _matrices(self, weight: Tensor) -> list[Tensor]:
        return [weight[..., columns(self._sizes, end), :] for end in range(len(self.ends))]

    def field(
        self,
        end: int,
        statistics: Statistics,
        weight: Tensor,
        indices: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        return _field(self.ends, self._matrices(weight), None, end, statistics, indices, plus)

    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        return product_of(_projections(self.ends, self._matrices(weight), statistics)).sum(-1)

    def given(self, end: int, statistic: Tensor, weight: Tensor) -> tuple[Interaction, Tensor]:
        matrices = self._matrices(weight)
        others = [e for e in range(len(self.ends)) if e != end]
        left = GatedFactors([self.ends[e] for e in others], [matrices[e] for e in others])
        return left, product(statistic, matrices[end])

    def strength(self, weight: Tensor, scales: Mapping[int, Tensor], ranges: Mapping[int, Range]) -> Tensor:
        return _strength(self._matrices(weight), weight.new_ones(()), scales, ranges)


class GatedFactors(Multiway):
    r"""What is left of a factored coupling where a layer is given: $\sum_f g_f \prod_e \langle T_e, W^e_f \rangle$.

    The matrices of the other layers are shared by all rows and belong to the coupling; its weight is the gates g, F of them, one
    set for every row.

    Args:
        ends: the layers that are left.
        matrices: W, one per end, ``n_e x F``.
    """

    def __init__(self, ends: Sequence[End], matrices: Sequence[Tensor]) -> None:
        self.ends, self.matrices = tuple(ends), list(matrices)

    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        return self.matrices[0].shape[-1:]

    def field(
        self,
        end: int,
        statistics: Statistics,
        weight: Tensor,
        indices: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        return _field(self.ends, self.matrices, weight, end, statistics, indices, plus)

    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        return (weight * product_of(_projections(self.ends, self.matrices, statistics))).sum(-1)

    def given(self, end: int, statistic: Tensor, weight: Tensor) -> tuple[Interaction, Tensor]:
        others = [e for e in range(len(self.ends)) if e != end]
        left = GatedFactors([self.ends[e] for e in others], [self.matrices[e] for e in others])
        return left, weight * product(statistic, self.matrices[end])

    def strength(self, weight: Tensor, scales: Mapping[int, Tensor], ranges: Mapping[int, Range]) -> Tensor:
        return _strength(self.matrices, weight.abs(), scales, ranges)


def _projections(
    ends: Sequence[End], matrices: Sequence[Tensor], statistics: Statistics, without: int | None = None
) -> list[Tensor]:
    return [
        product(statistics[end.layer][end.statistic], matrix)
        for number, (end, matrix) in enumerate(zip(ends, matrices, strict=True))
        if number != without
    ]


def _field(
    ends: Sequence[End],
    matrices: Sequence[Tensor],
    gates: Tensor | None,
    end: int,
    statistics: Statistics,
    indices: Tensor | None,
    plus: Tensor | None,
) -> Tensor:
    matrix = matrices[end] if indices is None else matrices[end].index_select(-2, indices)
    factors = product_of(_projections(ends, matrices, statistics, end))
    if gates is not None:
        fits = gates.shape == factors.shape and not torch.is_grad_enabled()
        factors = factors.mul_(gates) if fits else factors * gates  # projections are nobody else's
    return product(factors, matrix.mT, plus=plus)


def _strength(
    matrices: Sequence[Tensor], gates: Tensor, scales: Mapping[int, Tensor], ranges: Mapping[int, Range]
) -> Tensor:
    """The smaller of two bounds: by the norms of columns, factor by factor, and by those of the real ends' matrices."""
    reached = product_of([gates, *(reach(bounds, matrices[end].mT) for end, bounds in ranges.items())])
    real = [scale.unsqueeze(-1) * matrices[end] for end, scale in scales.items()]
    by_factor = (reached * product_of([matrix.norm(dim=-2) for matrix in real])).sum(-1)
    return torch.minimum(by_factor, reached.amax(-1) * product_of([torch.linalg.matrix_norm(m, 2) for m in real]))
