"""Machines of layers of bits with dense couplings, as the compiled loops take them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from ..energy import Binary, BoltzmannDistribution, Dense, EnergyDistribution, Machine, State
from ..energy.graph import Colour, Graph
from ..native import Flow, PackedBits, moves_bits, sweep_bits


def are_bits(graph: Graph) -> bool:
    """Whether a graph has layers of bits with dense couplings between them alone."""
    return (
        all(type(unit) is Binary for unit in graph.layers.values())
        and all(type(interaction) is Dense for interaction in graph.interactions)
        and all(block.atoms is None for colour in graph.colours for block in colour)
        and not graph.joint
    )


def holds_bits(dist: EnergyDistribution) -> bool:
    """Whether a distribution is one machine of bits with dense couplings alone, in a precision that the loop has."""
    if not isinstance(dist, BoltzmannDistribution):
        return False
    return moves_bits(dist.parameters()) and not dist.batch_shape and are_bits(dist.machine.graph)


class Parts(NamedTuple):
    """A machine of bits: biases of the layers, the layer of every block, the couplings at every block."""

    biases: list[Tensor]
    order: list[int]
    flows: list[Flow]


def parts_of(machine: Machine, colours: Sequence[Colour] | None = None) -> Parts:
    """The parts of a machine that ``holds_bits``; layers are numbered in the graph's order.

    Args:
        machine: the machine.
        colours: its colours in the order in which they are drawn, by default the graph's.
    """
    graph = machine.graph
    names = list(graph.layers)
    order = [block.layer for colour in colours or graph.colours for block in colour]
    flows = []
    for place, name in enumerate(order):
        for number, end in graph.touching[name]:
            source, weight = graph.interactions[number].ends[1 - end].layer, machine.weights[number]
            flows.append((place, names.index(source), weight if end == 1 else weight.t()))
    return Parts([machine.biases[name][0] for name in names], [names.index(name) for name in order], flows)


def packed(machine: Machine, colours: Sequence[Colour] | None = None, steps: float = math.inf) -> PackedBits:
    """The machine in the form that loops over so many steps read."""
    return PackedBits(*parts_of(machine, colours), steps)


def unpacked(bits: PackedBits, words: Sequence[Tensor], layers: Iterable[str], like: State) -> State:
    """The state that some words stand for, in the shapes of another state."""
    return {name: x.view(like[name].shape) for name, x in zip(layers, bits.unpack(words), strict=True)}


def swept(dist: BoltzmannDistribution, state: State, sweeps: int) -> State | None:
    """The state after some Gibbs sweeps in one call; None where that does not pay, or for other machines."""
    if not holds_bits(dist) or state.keys() != dist.shapes.keys():
        return None
    if any(state[name].dim() != 1 + len(shape) for name, shape in dist.shapes.items()):
        return None
    flat = [state[name].flatten(1).contiguous() for name in dist.machine.graph.layers]
    found = sweep_bits(*parts_of(dist.machine), flat, sweeps)
    if found is None:
        return None
    return {name: x.view(state[name].shape) for name, x in zip(dist.machine.graph.layers, found, strict=True)}
