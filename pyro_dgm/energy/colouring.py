"""Proper colourings of a graph's atoms: a search for one, and the check of a given one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..checks import shown
from .interactions import Interaction
from .units import Unit

Layers = Mapping[str, Unit]


def colour(layers: Layers, interactions: Sequence[Interaction]) -> dict[str, Tensor]:
    """A colour for every atom of every layer: two colours where they suffice, else as few as greedy colourings find."""
    import networkx as nx

    coupled, split = _coupled(layers, interactions)
    by_node = nx.bipartite.color(coupled) if nx.is_bipartite(coupled) else _greedy(coupled)
    return {
        layer: torch.tensor([by_node[(layer, atom if layer in split else 0)] for atom in range(unit.atoms)])
        for layer, unit in layers.items()
    }


def checked_colouring(
    layers: Layers, interactions: Sequence[Interaction], colouring: Mapping[str, Any]
) -> dict[str, Tensor]:
    """A given colouring as one colour per atom, numbered from 0 without gaps.

    Raises:
        ValueError: it names other layers than the graph has, has no whole number for every atom, or is not proper.
    """
    if not isinstance(colouring, Mapping):
        raise ValueError(
            f"colouring got {shown(colouring)}; expected colours by layer, as {{{next(iter(layers))!r}: 0, ...}}"
        )
    if set(colouring) != set(layers):
        raise ValueError(f"colouring names the layers {list(colouring)}; expected {sorted(layers)}")
    by_layer = {}
    for layer, unit in layers.items():
        try:
            numbers = torch.as_tensor(colouring[layer])
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"colouring of {layer!r} got {shown(colouring[layer])}; expected whole numbers") from None
        if numbers.is_floating_point() or numbers.dtype == torch.bool or numbers.shape not in ((), (unit.atoms,)):
            raise ValueError(
                f"colouring of {layer!r} got {numbers.dtype} of shape {tuple(numbers.shape)}; expected one whole number, or "
                f"one for each of its {unit.atoms} atoms"
            )
        by_layer[layer] = numbers.expand(unit.atoms).cpu()
    coupled, split = _coupled(layers, interactions)

    def colours(node: tuple[str, int]) -> set[int]:
        layer, atom = node
        return set(by_layer[layer].tolist()) if layer not in split else {int(by_layer[layer][atom])}

    for u, v in coupled.edges:
        if common := colours(u) & colours(v):
            (first, i), (second, j) = sorted((u, v))
            names = [
                f"unit {atom} of {layer!r}" if layer in split else repr(layer)
                for layer, atom in ((first, i), (second, j))
            ]
            raise ValueError(
                f"colouring gives {names[0]} and {names[1]} the colour {min(common)}, but they are coupled; give them different "
                "ones, or leave colouring out to have one found"
            )
    _, without_gaps = torch.cat(list(by_layer.values())).unique(return_inverse=True)
    return dict(zip(by_layer, without_gaps.split([len(numbers) for numbers in by_layer.values()]), strict=True))


def _coupled(layers: Layers, interactions: Sequence[Interaction]) -> tuple[Any, set[str]]:
    """A graph of the coupled atoms, and the layers that take part in it atom by atom.

    Any other layer, which has neither inner couplings nor couplings along edges, is one node.
    """
    import networkx as nx

    split = {
        end.layer
        for interaction in interactions
        if interaction.pairs(layers) is not None or len({e.layer for e in interaction.ends}) == 1
        for end in interaction.ends
    }

    def nodes(layer: str, entries: Tensor | None = None) -> list[tuple[str, int]]:
        if layer not in split:
            return [(layer, 0)]
        unit = layers[layer]
        if entries is None:
            return [(layer, atom) for atom in range(unit.atoms)]
        inner = unit.shape.numel() // unit.atoms
        return [(layer, int(e) // inner) for e in entries]

    coupled = nx.Graph()
    for layer in layers:
        coupled.add_nodes_from(nodes(layer))
    for interaction in interactions:
        pairs = interaction.pairs(layers)
        for a, first in enumerate(interaction.ends):
            for b, second in enumerate(interaction.ends[:a]):
                if pairs is None:
                    all_pairs = ((u, v) for u in nodes(first.layer) for v in nodes(second.layer) if u != v)
                    coupled.add_edges_from(all_pairs)
                else:
                    ends = zip(nodes(first.layer, pairs[a]), nodes(second.layer, pairs[b]), strict=False)
                    coupled.add_edges_from((u, v) for u, v in ends if u != v)
    return coupled, split


def _greedy(coupled: Any) -> dict[Any, int]:
    import networkx as nx

    attempts = (nx.greedy_color(coupled, strategy=s) for s in ("DSATUR", "smallest_last"))
    return min(attempts, key=lambda colouring: max(colouring.values()))
