"""The compiled loops of annealing: from a product distribution to the machine, and back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ._machine import Block, Machine, State, Statistics, units_of
from ._structure import Arrays, Structure
from ._units import Eta

Base = Mapping[str, Eta]


class _Shared(NamedTuple):
    """The part of the work that all temperatures share: statistics without the summed colour, that colour's fields, and D."""

    statistics: Statistics
    raw: tuple[Eta, ...]
    difference: Any


class _Path:
    r"""Natural parameters $(1-\beta)\,\text{base} + \beta\,(\text{bias} + \text{couplings})$, one colour summed out."""

    def __init__(self, structure: Structure, arrays: Arrays, base: Base) -> None:
        self.machine, self.base = Machine(structure, arrays, terms=3), base
        sizes = [sum(block.bias[0].size // block.layer.inner for block in colour) for colour in self.machine.colours]
        self.number = sizes.index(max(sizes))
        self.summed = self.machine.colours[self.number]

    def eta(self, block: Block, raw: Eta, beta: Any) -> Eta:
        """A block's natural parameters at a temperature."""
        naturals = []
        for bias, base, field in zip(block.bias, self.base[block.layer.name], raw, strict=True):
            base = (base if block.entries is None else base[block.entries]).reshape(bias.shape)
            naturals.append(base + beta * (bias - base + field))
        return tuple(naturals)

    def describe(self, state: State) -> _Shared:
        """The quantities of a state that its weights need at any temperature."""
        machine = self.machine
        statistics = machine.without(self.summed, machine.statistics(state))
        difference = machine.coupled(statistics, self.summed)
        difference = difference + machine.dot(machine.arrays.biases, statistics) - machine.dot(self.base, statistics)
        return _Shared(statistics, tuple(machine.raw(block, statistics) for block in self.summed), difference)

    def rise(self, shared: _Shared, before: Any, after: Any) -> Any:
        """The rise of the log of the unnormalised probability by a change of temperature."""
        total = (after - before) * shared.difference
        for block, raw in zip(self.summed, shared.raw, strict=True):
            units = self.machine.units[block.layer.name]
            total = total + units.rise(self.eta(block, raw, before), self.eta(block, raw, after)).sum(-1)
        return total

    def move(self, shared: _Shared, state: State, beta: Any, key: Any) -> State:
        """The state after one sweep at a temperature, the summed colour first."""
        machine, state, statistics = self.machine, dict(state), dict(shared.statistics)
        order = [self.number, *(n for n in range(len(machine.colours)) if n != self.number)]
        for colour, colour_key in zip(order, jax.random.split(key, len(order)), strict=True):
            for place, block in enumerate(machine.colours[colour]):
                raw = shared.raw[place] if colour == self.number else machine.raw(block, statistics)
                eta = self.eta(block, raw, beta)
                machine.draw(block, eta, state, statistics, jax.random.fold_in(colour_key, place), {})
        return state


@partial(jax.jit, static_argnums=0)
def log_base(structure: Structure, arrays: Arrays, base: Base) -> Any:
    """Log Z of the base: the sum of A over all units."""
    parts, units = [], units_of(structure, arrays)
    for layer in structure.layers:
        shape = (layer.atoms,) if layer.inner == 1 else (layer.atoms, layer.inner)
        parts.append(units[layer.name].A(tuple(b.reshape(shape) for b in base[layer.name])).sum())
    return sum(parts[1:], start=parts[0])


@partial(jax.jit, static_argnums=(0, 4))
def start(structure: Structure, arrays: Arrays, base: Base, key: Any, chains: int) -> State:
    """Independent draws from the base."""
    return Machine(structure, arrays._replace(biases=dict(base))).start(key, (chains,))


@partial(jax.jit, static_argnums=0)
def forward(
    structure: Structure, arrays: Arrays, base: Base, state: State, key: Any, betas: Any
) -> tuple[State, Any, Any]:
    """State, key and log weight after some temperatures upwards, at each of which chains are weighed and then moved."""
    path = _Path(structure, arrays, base)

    def step(now: Any, pair: Any) -> Any:
        state, key, total = now
        key, move_key = jax.random.split(key)
        shared = path.describe(state)
        total = total + path.rise(shared, *pair)
        return (path.move(shared, state, pair[1], move_key), key, total), None

    return _scan(step, state, key, betas)


@partial(jax.jit, static_argnums=0)
def reverse(
    structure: Structure, arrays: Arrays, base: Base, state: State, key: Any, betas: Any
) -> tuple[State, Any, Any]:
    """State, key and log weight after some temperatures downwards, at each of which chains are moved and then weighed."""
    path = _Path(structure, arrays, base)

    def step(now: Any, pair: Any) -> Any:
        state, key, total = now
        key, move_key = jax.random.split(key)
        state = path.move(path.describe(state), state, pair[0], move_key)
        return (state, key, total + path.rise(path.describe(state), *pair)), None

    return _scan(step, state, key, betas)


def _scan(step: Any, state: State, key: Any, betas: Any) -> tuple[State, Any, Any]:
    zeros = jnp.zeros(len(next(iter(state.values()))), betas.dtype)
    return lax.scan(step, (state, key, zeros), (betas[:-1], betas[1:]))[0]
