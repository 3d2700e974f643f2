"""Proper colourings of a graph's atoms: found, or given and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .interactions import Interaction
from .units import Unit

Layers = Mapping[str, Unit]


def colour(layers: Layers, interactions: Sequence[Interaction]) -> dict[str, Tensor]:
    """The colour of every atom of every layer: two where two are enough, else as few as greedy colourings find."""
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
    """A given colouring with one colour an atom, numbered from 0 without gaps.

    Raises:
        ValueError: it names other layers than there are, has no whole number for every atom, or is not proper.
    """
    if set(colouring) != set(layers):
        raise ValueError(f"colouring names the layers {sorted(colouring)}; expected {sorted(layers)}")
    found = {}
    for layer, unit in layers.items():
        given = torch.as_tensor(colouring[layer])
        if given.is_floating_point() or given.dtype == torch.bool or given.shape not in ((), (unit.atoms,)):
            raise ValueError(
                f"colouring of {layer!r} got {given.dtype} of shape {tuple(given.shape)}; expected one whole number, or one for "
                f"each of its {unit.atoms} atoms"
            )
        found[layer] = given.expand(unit.atoms).cpu()
    coupled, split = _coupled(layers, interactions)

    def colours(node: tuple[str, int]) -> set[int]:
        layer, atom = node
        return set(found[layer].tolist()) if layer not in split else {int(found[layer][atom])}

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
    _, numbers = torch.cat(list(found.values())).unique(return_inverse=True)
    return dict(zip(found, numbers.split([len(part) for part in found.values()]), strict=True))


def _coupled(layers: Layers, interactions: Sequence[Interaction]) -> tuple[Any, set[str]]:
    """The atoms that are coupled, as a graph, and the layers that take part in it atom by atom.

    A layer without inner or edge-wise couplings is one node.
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
                    every = ((u, v) for u in nodes(first.layer) for v in nodes(second.layer) if u != v)
                    coupled.add_edges_from(every)
                else:
                    ends = zip(nodes(first.layer, pairs[a]), nodes(second.layer, pairs[b]), strict=False)
                    coupled.add_edges_from((u, v) for u, v in ends if u != v)
    return coupled, split


def _greedy(coupled: Any) -> dict[Any, int]:
    import networkx as nx

    attempts = (nx.greedy_color(coupled, strategy=s) for s in ("DSATUR", "smallest_last"))
    return min(attempts, key=lambda colouring: max(colouring.values()))
