"""Machines of some layers, where the others are given: normalised over what is left."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .graph import as_multiway
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
    graph, kept = machine.graph.left(name for name in machine.graph.layers if name not in given)
    biases = {name: list(machine.biases[name]) for name in graph.layers}
    weights = []
    for number, (interaction, weight) in enumerate(zip(machine.graph.interactions, machine.weights, strict=True)):
        fixed = [position for position, end in enumerate(interaction.ends) if end.layer in given]
        free = [position for position in range(len(interaction.ends)) if position not in fixed]
        if number in kept:
            for position in reversed(fixed):
                end, multiway = interaction.ends[position], as_multiway(interaction)
                weight = multiway.weight_given(position, statistics[end.layer][end.statistic], weight)
                interaction = multiway.without(position)
                interaction.weight_shape(machine.graph.layers)
            weights.append(weight)
        elif free:
            end = interaction.ends[free[0]]
            field = interaction.field(free[0], statistics, weight)
            biases[end.layer][end.statistic] = biases[end.layer][end.statistic] + field
    constant = machine.value(statistics, frozenset(graph.layers))
    return Machine.of_flat(graph, {name: tuple(b) for name, b in biases.items()}, weights), torch.as_tensor(constant)
