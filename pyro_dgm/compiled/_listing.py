"""Sums over all states of a small machine: some units are listed, one colour of them is summed analytically."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from ._machine import Block, Machine, State
from ._structure import Arrays, Structure
from ._units import KINDS

LARGEST = 20
"""The binary logarithm of how many states are still listed."""


class Listing(NamedTuple):
    """How a sum is made.

    Of the colour ``colour`` the blocks outside ``fixed`` are summed analytically; ``listed`` are the layers and atoms that
    are listed, in the order of their significance, and ``radices`` how many states each of them has.
    """

    fixed: tuple[str, ...]
    colour: int
    listed: tuple[tuple[str, int], ...]
    radices: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of listed states."""
        return math.prod(self.radices)

    def states(self, structure: Structure, dtype: Any) -> State:
        """All listed states of the layers that are not fixed, ``count x layer shape``; the colour's units hold zeros."""
        free = [layer for layer in structure.layers if layer.name not in self.fixed]
        found = {layer.name: jnp.zeros((self.size, layer.atoms, layer.inner), dtype) for layer in free}
        number, below = jnp.arange(self.size), self.size
        for (name, atom), radix in zip(self.listed, self.radices, strict=True):
            below //= radix
            layer = structure.layer(name)
            values = jnp.asarray(KINDS[layer.kind].states(layer.inner), dtype).reshape(radix, -1)
            found[name] = found[name].at[:, atom].set(values[number // below % radix])
        return {name: x.reshape(self.size, *structure.layer(name).shape) for name, x in found.items()}


def listing(structure: Structure, arrays: Arrays, fixed: tuple[str, ...]) -> Listing | str:
    """The cheapest sum over the layers that are not fixed, or why there is none."""
    instead = "draw with NumPyroGibbs, or use dgm.log_partition(dist, method='ais') on the torch distribution"
    found = [_without(structure, arrays, fixed, number) for number in range(len(structure.colours))]
    possible = [entry for entry in found if entry is not None]
    if not possible:
        return f"units of the real line have more than one colour, so that there is no exact sum; {instead}"
    best = min(possible, key=lambda entry: entry.size)
    if (bits := math.log2(best.size)) > LARGEST:
        return f"2^{bits:.0f} states are left when one colour is summed out; at most 2^{LARGEST} are listed: {instead}"
    return best


def _without(structure: Structure, arrays: Arrays, fixed: tuple[str, ...], number: int) -> Listing | None:
    """The listing that sums one colour, or None where the rest has units that cannot be listed."""
    summed = {name: place for name, place in structure.colours[number] if name not in fixed}
    listed, radices = [], []
    for layer in structure.layers:
        if layer.name in fixed or (layer.name in summed and summed[layer.name] is None):
            continue
        place = summed.get(layer.name)
        free = np.setdiff1d(np.arange(layer.atoms), [] if place is None else np.asarray(arrays.atoms[place]))
        if len(free) and KINDS[layer.kind].states(layer.inner) is None:
            return None
        listed += [(layer.name, int(atom)) for atom in free]
        radices += [layer.inner if layer.inner > 1 else 2] * len(free)
    return Listing(fixed, number, tuple(listed), tuple(radices))


def log_sums(plan: Listing, machine: Machine, fixed: State) -> Any:
    """The unnormalised log-probability of every listed state given one row of the fixed layers: ``count``."""
    dtype = machine.arrays.biases[machine.structure.visible][0].dtype
    state = plan.states(machine.structure, dtype)
    state |= {name: jnp.broadcast_to(x, (plan.size, *x.shape)) for name, x in fixed.items()}
    return machine.collapsed(_blocks(plan, machine), state)


def log_sum(plan: Listing, machine: Machine, fixed: State) -> Any:
    """The sum over all states of the free layers, for many rows of the fixed ones: ``rows``."""
    if plan.size > 1:
        return jax.lax.map(lambda row: logsumexp(log_sums(plan, machine, row)), fixed, batch_size=256)
    rows = len(next(iter(fixed.values())))
    listed = plan.states(machine.structure, next(iter(fixed.values())).dtype)
    state = {name: jnp.broadcast_to(x, (rows, *x.shape[1:])) for name, x in listed.items()} | fixed
    return machine.collapsed(_blocks(plan, machine), state)


def _blocks(plan: Listing, machine: Machine) -> tuple[Block, ...]:
    return tuple(block for block in machine.colours[plan.colour] if block.layer.name not in plan.fixed)
