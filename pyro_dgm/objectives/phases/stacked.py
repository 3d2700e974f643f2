"""Steps of persistent chains that share the product of the units summed out with the gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...energy import BoltzmannDistribution, EnergyDistribution, State
from ...mcmc import BlockGibbs, EnergyKernel


class StackedStep(NamedTuple):
    """What a step leaves.

    Args:
        state: the chains after it.
        before: the witnesses' log-probabilities before it, up to log Z, under the present parameters.
        data: the log-probabilities of the data up to log Z, with their gradient.
        negatives: the same of the chains after the step.
    """

    state: State
    before: Tensor
    data: Tensor
    negatives: Tensor


def stacks(kernel: EnergyKernel, fn: EnergyDistribution) -> bool:
    """Whether chains are moved by plain sweeps whose first colour is whole layers that others are coupled to."""
    if type(kernel) is not BlockGibbs or kernel.clamp is not None or kernel.precision != "float32":
        return False
    if not isinstance(fn, BoltzmannDistribution) or fn.parameter_batch_shape or fn.machine.graph.joint:
        return False
    graph, first = fn.machine.graph, fn.machine.colours[0]
    return all(block.atoms is None and block.layer != fn.visible and graph.touching[block.layer] for block in first)


def stacked_step(
    kernel: EnergyKernel, fn: BoltzmannDistribution, chains: State, k: int, witnesses: int, value: Tensor | None = None
) -> StackedStep:
    """Make k sweeps and sum the first colour out, of data and negatives, by one product where they are two in turn.

    A sweep draws the first colour last, so that it takes the fields by which the gradient sums it out. The witnesses' rows of
    before the step are in that product, too.

    Args:
        kernel: makes the sweeps but the last.
        fn: the distribution at the present parameters.
        chains: every layer, ``chains x layer shape``; the first colour is a draw given the others.
        k: the number of sweeps.
        witnesses: the number of the first chain of those that follow log Z.
        value: the data of a restricted machine, ``rows x visible shape``; None leaves ``data`` empty.
    """
    machine, colour = fn.machine, fn.machine.colours[0]
    summed = frozenset(block.layer for block in colour)
    with torch.no_grad():
        state = machine.sweep(chains, skip=summed)
        for _ in range(k - 1):
            state = kernel.sample(state)
    number, data = len(state[fn.visible]), [] if value is None else [value]
    rest = frozenset(state) - summed
    rows = {layer: torch.cat([*data, chains[layer][witnesses:], state[layer]]) for layer in rest}
    fields = machine.colour_fields(colour, rows)
    log_p = machine.collapsed(colour, rows, fields)
    with torch.no_grad():
        of_chains = [tuple(part[-number:] for part in torch.broadcast_tensors(*eta)) for eta in fields]
        state = machine.sweep(state, skip=rest, first=of_chains)
    of_data, before, negatives = log_p.split([len(log_p) - 2 * number + witnesses, number - witnesses, number])
    return StackedStep(state, before.detach(), of_data, negatives)
