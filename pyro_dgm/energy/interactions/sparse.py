"""Sparse couplings along a list of edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..units import Unit
from .interaction import Interaction, Statistics, end_of


class Sparse(Interaction):
    r"""One weight per edge: $\sum_e w_e\, T_a[i_e]\, T_b[j_e]$, within a layer or between two.

    The cost of a field in time and memory follows the number of edges: units of like degree gather their neighbours from a
    table, and where degrees differ widely the edges' contributions are added one by one. Each edge is named once.

    Args:
        first: the layer of the edges' first column.
        second: the layer of their second column (it may be the same one).
        edges: ``edges x 2`` integer indices into the flat layers.
    """

    def __init__(self, first: str, second: str, edges: Tensor | Sequence[Sequence[int]]) -> None:
        edges = edge_list(edges)
        self.ends = (end_of(first), end_of(second))
        if first == second:
            if (edges[:, 0] == edges[:, 1]).any():
                raise ValueError("edges couple a unit to itself; drop them and put their weight into the bias")
            keys = edges.sort(dim=1).values
        else:
            keys = edges
        if len(torch.unique(keys, dim=0)) != len(keys):
            raise ValueError("edges name a pair of units twice; name each edge once and add their weights")
        self.edges = edges
        self._directed: dict[tuple[int, torch.device, int], tuple[_Flow, Tensor | None]] = {}

    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        for column, end in enumerate(self.ends):
            size = layers[end.layer].shape.numel()
            check_edges(self.edges[:, column], size, where=f" of layer {end.layer!r}")
        unit = layers[self.ends[0].layer]
        atoms = self.edges // (unit.shape.numel() // unit.atoms)
        if self.ends[0] == self.ends[1] and (atoms[:, 0] == atoms[:, 1]).any():
            raise ValueError("edges couple the categories of one unit; put their weight into the bias")
        self._sizes = tuple(layers[end.layer].shape.numel() for end in self.ends)
        return torch.Size([len(self.edges)])

    def check(self, weight: Tensor) -> str | None:
        return None

    def _flow(self, end: int, device: torch.device, indices: Tensor | None) -> _Flow:
        """The sums over all edges into ``end`` (or into its ``indices``)."""
        key = (end, device, 0 if indices is None else id(indices))
        if key not in self._directed or self._directed[key][1] is not indices:
            directions = [(self.edges[:, 1 - end], self.edges[:, end])]
            if self.ends[0] == self.ends[1]:
                directions.append((self.edges[:, end], self.edges[:, 1 - end]))
            source = torch.cat([s for s, _ in directions])
            target = torch.cat([t for _, t in directions])
            edge = torch.arange(len(self.edges)).repeat(len(directions))
            if indices is not None:
                slot = torch.full((self._sizes[end],), -1)
                slot[indices.cpu()] = torch.arange(len(indices))
                keep = slot[target] >= 0
                source, target, edge = source[keep], slot[target[keep]], edge[keep]
            size = self._sizes[end] if indices is None else len(indices)
            # The indices are kept with the flow: their id names them only while they live.
            self._directed[key] = _Flow(source, target, edge, size, len(self.edges), device), indices
        return self._directed[key][0]

    def field(
        self,
        end: int,
        statistics: Statistics,
        weight: Tensor,
        indices: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        other = statistics[self.ends[1 - end].layer][self.ends[1 - end].statistic]
        return self._flow(end, other.device, indices)(other, weight, plus)

    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        columns = self.edges.to(weight.device).unbind(1)
        first, second = (
            statistics[end.layer][end.statistic].index_select(-1, column)
            for end, column in zip(self.ends, columns, strict=True)
        )
        return (first * second * weight).sum(-1)

    def centred_gradient(self, gradient: Tensor, biases: tuple[Tensor, ...], offsets: tuple[Tensor, ...]) -> Tensor:
        i, j = self.edges.to(gradient.device).unbind(1)
        return gradient - offsets[0][i] * biases[1][j] - biases[0][i] * offsets[1][j]

    def pairs(self, layers: Mapping[str, Unit]) -> tuple[Tensor, Tensor]:
        return self.edges[:, 0], self.edges[:, 1]


def edge_list(edges: Tensor | Sequence[Sequence[int]]) -> Tensor:
    """Pairs as integers, ``pairs x 2``; there may be none.

    Raises:
        ValueError: they are not pairs of integers.
    """
    try:
        pairs = torch.as_tensor(edges)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"edges got {edges!r}; expected pairs of integers, as in [(0, 1), (1, 2)]") from None
    whole = not (pairs.is_floating_point() or pairs.is_complex() or pairs.dtype == torch.bool)
    if pairs.numel() and not (whole and pairs.dim() == 2 and pairs.shape[1] == 2):
        raise ValueError(f"edges got shape {tuple(pairs.shape)} and {pairs.dtype}; expected integers, pairs x 2")
    return pairs.reshape(-1, 2).long()


def check_edges(edges: Tensor, size: int, kind: str = "unit", where: str = "") -> None:
    """Refuse edges to numbers that do not exist.

    Args:
        edges: numbers, of any shape.
        size: the count of numbers, which begin at 0.
        kind: the name of a numbered thing, for the message.
        where: words that follow its number in the message.

    Raises:
        ValueError: a number below 0, or one too large; the message names the first.
    """
    wrong = edges[(edges < 0) | (edges >= size)]
    if len(wrong):
        raise ValueError(f"edges name {kind} {int(wrong[0])}{where}; the {kind}s are 0 to {size - 1}")


class _Flow:
    """Sums over the edges that lead into each slot of a result, by a table of neighbours or edge by edge."""

    def __init__(
        self, source: Tensor, target: Tensor, edge: Tensor, size: int, edges: int, device: torch.device
    ) -> None:
        self.size = size
        degrees = torch.bincount(target, minlength=size)
        widest = int(degrees.max()) if len(target) else 0
        self.table: list[tuple[Tensor, Tensor]] | None = None
        if 0 < widest <= 16 and widest * size <= 2 * len(target):
            order = target.argsort(stable=True)
            place = torch.arange(len(target)) - (degrees.cumsum(0) - degrees)[target[order]]
            sources = torch.zeros(widest, size, dtype=torch.long)
            numbers = torch.full((widest, size), edges)  # a slot without a further neighbour gets the weight zero
            sources[place, target[order]] = source[order]
            numbers[place, target[order]] = edge[order]
            self.table = [(s.to(device), n.to(device)) for s, n in zip(sources, numbers, strict=True)]
        self.lists = tuple(t.to(device) for t in (source, target, edge))

    def __call__(self, other: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor:
        if self.table is None:
            source, target, edge = self.lists
            flow = other.index_select(-1, source) * weight.index_select(-1, edge)
            result = flow.new_zeros((*flow.shape[:-1], self.size)).index_add_(-1, target, flow)
            return result if plus is None else result + plus
        padded = torch.cat([weight, weight.new_zeros((*weight.shape[:-1], 1))], -1)
        pairs = [(other.index_select(-1, source), padded.index_select(-1, edge)) for source, edge in self.table]
        total = pairs[0][0] * pairs[0][1] if plus is None else torch.addcmul(plus, *pairs[0])
        for neighbour, coupling in pairs[1:]:
            total.addcmul_(neighbour, coupling)
        return total
