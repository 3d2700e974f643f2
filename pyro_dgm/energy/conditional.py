"""Machines of some layers, where the others are given: normalised over what is left."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .graph import Graph, as_multiway
from .interactions import Interaction
from .machine import Machine


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
