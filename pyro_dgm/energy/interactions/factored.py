"""Couplings through factors: products of one linear projection of every layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...checks import check_count
from ..units import Unit
from .dense import product
from .interaction import Interaction, Statistics
from .multiway import Multiway, Range, columns, distinct, product_of, reach


class Factored(Multiway):
    r"""Layers coupled through F factors: $\sum_f \prod_e \langle T_e, W^e_f \rangle$ (20.8).

    With three ends it is the factored gated machine, whose tensor $\sum_f W^a_{if} W^b_{jf} W^c_{kf}$ is never made; with two
    it is a coupling of rank F. The weight holds the ends' matrices one below another: $\sum_e n_e \times F$.

    Args:
        ends: two layers or more (each a name or ``(layer, statistic index)``).
        factors: F.

    Memisevic and Hinton (2010), "Learning to represent spatial transformations with factored higher-order Boltzmann machines".

    Example:
        >>> from pyro_dgm.energy import Binary, Factored, Graph
        >>> layers = {"output": Binary(6), "input": Binary(6), "hidden": Binary(4)}
        >>> Graph(layers, [Factored(["input", "output", "hidden"], factors=3)]).weight_shapes
        (torch.Size([16, 3]),)
    """

    def __init__(self, ends: list[str | tuple[str, int]] | tuple[str | tuple[str, int], ...], factors: int) -> None:
        if len(ends) < 2:
            raise ValueError(f"Factored got the ends {list(ends)}; expected two layers or more")
        self.ends = distinct(*ends)
        self.factors = check_count("factors", factors, what="the number of factors")

    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        self._sizes = tuple(layers[end.layer].shape.numel() for end in self.ends)
        return torch.Size([sum(self._sizes), self.factors])

    def _matrix(self, weight: Tensor, end: int) -> Tensor:
        return weight[..., columns(self._sizes, end), :]

    def _projections(self, statistics: Statistics, weight: Tensor, without: int | None = None) -> list[Tensor]:
        return [
            product(self._at(statistics, end), self._matrix(weight, end))
            for end in range(len(self.ends))
            if end != without
        ]

    def field(
        self,
        end: int,
        statistics: Statistics,
        weight: Tensor,
        indices: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        matrix = self._matrix(weight, end)
        if indices is not None:
            matrix = matrix.index_select(-2, indices)
        result = product(product_of(self._projections(statistics, weight, end)), matrix.mT)
        return result if plus is None else result + plus

    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        return product_of(self._projections(statistics, weight)).sum(-1)

    def without(self, end: int) -> Interaction:
        return Factored(self.ends[:end] + self.ends[end + 1 :], self.factors)

    def weight_given(self, end: int, statistic: Tensor, weight: Tensor) -> Tensor:
        factors = product(statistic, self._matrix(weight, end))
        others = [self._matrix(weight, e) for e in range(len(self.ends)) if e != end]
        shape = torch.broadcast_shapes(factors.shape[:-1], weight.shape[:-2])
        scaled = factors.unsqueeze(-2) * others[0]
        return torch.cat([m.expand(*shape, *m.shape[-2:]) for m in (scaled, *others[1:])], -2)

    def strength(self, weight: Tensor, scales: Mapping[int, Tensor], ranges: Mapping[int, Range]) -> Tensor:
        norms = [(scale.unsqueeze(-1) * self._matrix(weight, end)).norm(dim=-2) for end, scale in scales.items()]
        norms += [reach(bounds, self._matrix(weight, end).mT) for end, bounds in ranges.items()]
        return product_of(norms).sum(-1)
