"""Boltzmann machine on an arbitrary graph, section 20.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_columns, check_count
from ...energy import Binary, BoltzmannDistribution, Dense, Graph, Interaction, Lateral, ScalarUnit, Sparse, Spin
from ...energy.interactions.sparse import check_edges, edge_list
from ..shared.boltzmann import BoltzmannModel
from ..shared.examples import bits, seeded
from ..shared.shifts import shifted

_UNITS: dict[str, type[ScalarUnit]] = {"binary": Binary, "spin": Spin}


class BoltzmannMachine(BoltzmannModel):
    r"""Boltzmann machine over any graph of binary units or spins, with or without hidden ones (Ackley et al. 1985).

    Without ``edges`` all units are coupled: $E(v,h) = -v^\top R v - v^\top W h - h^\top S h - b^\top v - c^\top h$ (20.3),
    $R$ and $S$ symmetric with zero diagonal (fields $2Rv$); fully visible it is $E(x) = -x^\top U x - b^\top x$ (20.2). With
    ``edges`` every edge is named once: $E(x) = -\sum_{(i,j)} w_{ij} x_i x_j - b^\top x$, and the cost of a sweep is
    proportional to their number. Sweeps go over a proper colouring of the graph; where every unit is coupled to every other
    they visit the units one by one.

    Args:
        visible: the number of visible units, 0 to visible - 1.
        hidden: the number of hidden units, which follow the visible ones in the numbering.
        edges: pairs of units, ``edges x 2``; by default all pairs.
        unit: ``"binary"`` for {0, 1} or ``"spin"`` for {-1, 1}.

    Attributes:
        weight: one weight per edge; without ``edges`` one per pair, in the order of ``torch.triu_indices`` (the pair (i, j)
            enters the energy as $-w_{ij} x_i x_j = -2 U_{ij} x_i x_j$).
        visible_bias, hidden_bias: $b$ and $c$.

    Raises:
        ValueError: an edge that couples a unit to itself, is named twice or leads to no unit; an unknown unit.

    Example:
        >>> import pyro_dgm as dgm
        >>> ring = dgm.BoltzmannMachine(4, edges=[(0, 1), (1, 2), (2, 3), (3, 0)], unit="spin")
        >>> len(ring().machine.graph.colours)
        2
    """

    def __init__(
        self,
        visible: int,
        hidden: int = 0,
        edges: Tensor | Sequence[Sequence[int]] | None = None,
        unit: str = "binary",
    ) -> None:
        super().__init__()
        check_choice("unit", unit, _UNITS)
        visible, hidden = check_columns(visible), check_count("hidden", hidden, 0, "the number of hidden units")
        self.visible, self.hidden, self.unit = visible, hidden, unit
        layers = {"visible": _UNITS[unit](visible)} | ({"hidden": _UNITS[unit](hidden)} if hidden else {})
        self.edges = None if edges is None else edge_list(edges)
        self._graph = Graph(layers, self._interactions())
        total = visible + hidden
        count = total * (total - 1) // 2 if self.edges is None else len(self.edges)
        self.weight = nn.Parameter(0.01 * torch.randn(count))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        if hidden:
            self.hidden_bias = nn.Parameter(torch.zeros(hidden))

    def _interactions(self) -> list[Interaction]:
        if self.edges is None:
            within: list[Interaction] = [Lateral("visible")]
            return [*within, Dense("visible", "hidden"), Lateral("hidden")] if self.hidden else within
        total = self.visible + self.hidden
        check_edges(self.edges, total)
        edges = self.edges.sort(dim=1).values
        is_hidden = edges >= self.visible
        self._groups = [(~is_hidden).all(1), is_hidden[:, 1] & ~is_hidden[:, 0], is_hidden.all(1)]
        shift = is_hidden.long() * self.visible
        ends = [("visible", "visible"), ("visible", "hidden"), ("hidden", "hidden")]
        interactions: list[Interaction] = [
            Sparse(*pair, edges[group] - shift[group])
            for pair, group in zip(ends, self._groups, strict=True)
            if group.any()
        ]
        self._groups = [group.nonzero().view(-1) for group in self._groups if group.any()]
        return interactions

    def forward(self, visible_shift: Tensor | None = None, hidden_shift: Tensor | None = None) -> BoltzmannDistribution:
        """The distribution of the visible units; with shifts of the biases it has their batch shape."""
        weight, bias = self.weight, self.visible_bias
        biases = {"visible": (shifted(bias, visible_shift, "visible_shift"),)}
        if self.hidden:
            biases["hidden"] = (shifted(self.hidden_bias, hidden_shift, "hidden_shift"),)
        if self.edges is not None:
            weights = tuple(weight.index_select(-1, group.to(weight.device)) for group in self._groups)
        else:
            weights = self._dense(weight)
        return BoltzmannDistribution(self._graph, biases, weights)

    def _dense(self, weight: Tensor) -> tuple[Tensor, ...]:
        total, n = self.visible + self.hidden, self.visible
        i, j = torch.triu_indices(total, total, 1, device=weight.device)
        upper = weight.new_zeros((*weight.shape[:-1], total * total)).index_copy(-1, i * total + j, weight)
        upper = upper.unflatten(-1, (total, total))
        within = (upper + upper.mT) / 2
        if not self.hidden:
            return (within,)
        return within[..., :n, :n], upper[..., :n, n:], within[..., n:, n:]

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        edges = None if self.edges is None else self.edges.tolist()
        return {"visible": self.visible, "hidden": self.hidden, "edges": edges, "unit": self.unit}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=5, hidden=3), lambda: bits(10, 5), scale=1.0)
