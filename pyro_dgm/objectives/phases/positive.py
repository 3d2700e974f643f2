"""The positive phase: what hidden units contribute to the gradient when the visible ones are data (20.1)."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ...checks import check_choice
from ...energy import BoltzmannDistribution, EnergyDistribution, State
from ...energy.enumeration import quickly_summable
from ...energy.mean_field import free_energy_bound, mean_field

Positive = Literal["exact", "chains", "mean-field"]
"""How hidden units are dealt with given the data."""

ROUNDS = SWEEPS = 10
"""Rounds of mean field, and sweeps of the clamped chains from draws of its posterior."""


def check_positive_phase(positive: Any) -> Positive | None:
    """A positive phase by its name, or None.

    Raises:
        ValueError: another name.
    """
    if positive is not None:
        check_choice("positive", positive, get_args(Positive))
    return positive


def data_free_energy(fn: EnergyDistribution, value: Tensor, positive: Positive | None) -> Tensor:
    r"""F of data rows, or a figure with (an estimate of) its gradient $E_{h \mid x}[\partial E]$, in nats: one per row.

    Args:
        fn: the distribution.
        value: data rows.
        positive: ``"exact"`` sums over the hidden units. ``"mean-field"`` is the variational bound of F, as a function of the
            parameters at the posterior found. ``"chains"`` has that value, and the gradient of states that sweeps with the
            visible units clamped draw. By default exact where few states are to be listed, else chains.
    """
    if not isinstance(fn, BoltzmannDistribution):
        return fn.free_energy(value)
    fixed = {fn.visible: value, **fn.known}
    listed = positive == "exact" or (positive is None and quickly_summable(fn.machine, fixed))
    if listed or fixed.keys() == fn.shapes.keys():
        return fn.free_energy(value)
    bound = free_energy_bound(fn.machine, fixed, ROUNDS)
    if positive == "mean-field":
        return bound
    log_p = _given_data(fn, _clamped(fn, fixed))
    return bound.detach() - log_p + log_p.detach()


@torch.no_grad()
def _clamped(fn: BoltzmannDistribution, fixed: State) -> State:
    """States with the fixed layers held: draws of the mean-field posterior, and sweeps from there."""
    machine = fn.machine
    posterior = mean_field(machine, fixed, ROUNDS)
    rows = next(iter(posterior.statistics.values()))[0].shape[:-1]
    state = machine.neutral_state(rows)
    for layer, value in fixed.items():
        state[layer] = value.expand(state[layer].shape).to(state[layer].dtype)
    for block, eta, _ in posterior.parts:
        state[block.layer] = machine.draw_block(block, eta, state[block.layer], None)
    for _ in range(SWEEPS):
        state = machine.sweep(state, skip=frozenset(fixed))
    return state


def _given_data(fn: BoltzmannDistribution, state: State) -> Tensor:
    """-E of states, with a colour of hidden units summed out where there is one."""
    machine = fn.machine
    fixed = {fn.visible, *fn.known}
    free = [colour for colour in machine.colours if all(block.layer not in fixed for block in colour)]
    if not free:
        return -machine.energy(state)
    return machine.collapsed(max(free, key=machine.graph.size), state)
