"""Machines where some layers, or some entries of a layer of bits, are given: normalised over what is left."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .graph import Graph, as_multiway
from .interactions import Interaction
from .machine import Machine
from .units import Binary

OFF = -1e4
"""The bias of known bits, which stay off: their share of the fields is in the biases of the others."""


def conditional(machine: Machine, given: Mapping[str, Tensor]) -> tuple[Machine, Tensor]:
    r"""The machine of the layers that are not given, $-E(u \mid g) = -E(u, g) - c(g)$, and the constant $c(g)$.

    The fields of given units are added to the biases, and couplings of three layers become couplings of two whose weights
    have the batch dimensions of what is given. So $\log p(u \mid g)$ has a log Z of its own, one for every row.

    Args:
        machine: the bound graph.
        given: layers and their states, ``batch_shape x layer shape``; not all layers.

    Returns:
        The machine, and $c(g)$ in nats: ``batch_shape``.
    """
    statistics = machine.statistics(given)
    layers = {name: unit for name, unit in machine.graph.layers.items() if name not in given}
    biases = {name: list(machine.biases[name]) for name in layers}
    interactions, weights = [], []
    for interaction, weight in zip(machine.graph.interactions, machine.weights, strict=True):
        fixed = [position for position, end in enumerate(interaction.ends) if end.layer in given]
        free = [position for position in range(len(interaction.ends)) if position not in fixed]
        if len(free) == 1:
            end = interaction.ends[free[0]]
            field = interaction.field(free[0], statistics, weight)
            biases[end.layer][end.statistic] = biases[end.layer][end.statistic] + field
        elif free:
            left: Interaction = interaction
            for position in reversed(fixed):
                end = interaction.ends[position]
                left, weight = as_multiway(left).given(position, statistics[end.layer][end.statistic], weight)
                left.weight_shape(machine.graph.layers)
            interactions.append(left)
            weights.append(weight)
    # A proper colouring stays one where layers and couplings are taken away.
    colouring = {name: machine.graph.colouring[name] for name in layers}
    joint = [pair for pair in machine.graph.joint.items() if set(pair) <= set(layers)]
    graph = Graph(layers, interactions, colouring, joint)
    constant = machine.value(statistics, frozenset(layers))
    return Machine.of_flat(graph, {name: tuple(b) for name, b in biases.items()}, weights), torch.as_tensor(constant)


def given_entries(machine: Machine, layer: str, value: Tensor, known: Tensor) -> tuple[Machine, Tensor]:
    r"""The machine of a layer's unknown bits and of the other layers, $-E(u \mid g) = -E(u, g) - c(g)$, and the constant $c(g)$.

    The machine has the layer's shape still: known bits are held off, which adds nothing to log Z, and the fields that they have
    as they are known are added to the biases of all others. So its log Z is that of what is unknown, one for every row.

    Args:
        machine: the bound graph.
        layer: a layer of bits.
        value: its states, ``batch_shape x layer shape``; unknown entries may hold any number.
        known: booleans, which broadcast with ``value``.

    Returns:
        The machine, and $c(g)$ in nats: ``batch_shape``.

    Raises:
        ValueError: the layer is not of bits, or has a coupling of three layers.
    """
    unit = machine.graph.layers[layer]
    touching = [machine.graph.interactions[number] for number, _ in machine.graph.touching[layer]]
    if not isinstance(unit, Binary) or any(len(interaction.ends) > 2 for interaction in touching):
        why = f"is {unit!r}" if not isinstance(unit, Binary) else "has couplings of three layers"
        raise ValueError(
            f"layer {layer!r} {why}; expected bits with couplings of two layers, some of whose entries are known"
        )
    seen = machine.statistics({layer: torch.where(known, value, 0.0)})
    biases = {name: list(entry) for name, entry in machine.biases.items()}
    for name in machine.graph.layers:
        for number, position in machine.graph.touching[name]:
            interaction = machine.graph.interactions[number]
            if interaction.ends[1 - position].layer == layer:
                statistic = interaction.ends[position].statistic
                field = interaction.field(position, seen, machine.weights[number])
                biases[name][statistic] = biases[name][statistic] + field
    (flat,) = machine.flat(layer, (known.expand(value.shape),))
    biases[layer] = [torch.where(flat, OFF, biases[layer][0])]
    constant = machine.value(seen, frozenset(machine.graph.layers.keys() - {layer}))
    return machine.rebound({name: tuple(entry) for name, entry in biases.items()}), constant
