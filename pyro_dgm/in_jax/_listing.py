"""Sums over all states of a small machine: some units are listed, one colour or all real-valued ones are summed analytically."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from . import _integral
from ._machine import Block, Machine, State
from ._structure import Arrays, Layer, Structure
from ._units import KINDS

LARGEST = 20
"""The largest binary logarithm of the number of states that are listed."""

ROWS = 256
"""Rows of the fixed layers whose listed states are summed at once."""

INSTEAD = "draw with NumPyroGibbs, or use dgm.log_partition(dist, method='ais') on the torch distribution"


class Listing(NamedTuple):
    """The plan of a sum.

    Of the colour ``colour`` the blocks outside ``fixed`` are summed analytically; where it is None, all real-valued units
    outside ``fixed`` are integrated together. ``listed`` are the layers and atoms whose (finite parts') states are listed, in
    the order of their significance, and ``radices`` the number of states of each of them.
    """

    fixed: tuple[str, ...]
    colour: int | None
    listed: tuple[tuple[str, int], ...]
    radices: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of listed states."""
        return math.prod(self.radices)

    def states(self, structure: Structure, dtype: Any) -> State:
        """All listed states of the layers that are not fixed, ``count x layer shape``, with zeros for what is not listed."""
        free = [layer for layer in structure.layers if layer.name not in self.fixed]
        states = {layer.name: jnp.zeros((self.size, layer.atoms, layer.inner), dtype) for layer in free}
        number, below = jnp.arange(self.size), self.size
        for (name, atom), radix in zip(self.listed, self.radices, strict=True):
            below //= radix
            layer = structure.layer(name)
            values = jnp.asarray(KINDS[layer.kind].finite(layer.inner), dtype).reshape(radix, -1)
            states[name] = states[name].at[:, atom].set(values[number // below % radix])
        return {name: x.reshape(self.size, *structure.layer(name).shape) for name, x in states.items()}


def listing(structure: Structure, arrays: Arrays, fixed: tuple[str, ...]) -> Listing | str:
    """The cheapest sum over the layers that are not fixed, or the reason why there is none."""
    sizes = [_log_size(structure, arrays, fixed, number) for number in range(len(structure.colours))]
    best = min(sizes)
    if best == math.inf:
        return _integrals(structure, arrays, fixed)
    if best > LARGEST:
        return f"2^{best:.0f} states are left when one colour is summed out; at most 2^{LARGEST} are listed: {INSTEAD}"
    number = sizes.index(best)
    listed, radices = [], []
    for layer, place in _left(structure, fixed, number):
        free = np.arange(layer.atoms) if place is None else np.setdiff1d(np.arange(layer.atoms), arrays.atoms[place])
        listed += [(layer.name, int(atom)) for atom in free]
        radices += [_states(layer)] * len(free)
    return Listing(fixed, number, tuple(listed), tuple(radices))


def _integrals(structure: Structure, arrays: Arrays, fixed: tuple[str, ...]) -> Listing | str:
    """A sum whose real-valued units have several colours, or the reason why there is none."""
    layers = [layer for layer in structure.layers if layer.name not in fixed]
    units = ", ".join(_integral.reals(structure, fixed))
    size = sum(layer.atoms * math.log2(_states(layer)) for layer in layers)
    if size > _integral.LARGEST:
        return (
            f"the real-valued units of {units} have more than one colour: 2^{size:.0f} integrals over them are left, one for "
            f"every state of their spikes and of the other units; at most 2^{_integral.LARGEST} are taken: {INSTEAD}"
        )
    traced = any(isinstance(x, jax.core.Tracer) for x in (*arrays.weights, *arrays.edges))
    # Traced weights have no values yet: their sums are NaN where the energy is not quadratic.
    if not traced and not _integral.quadratic(structure, arrays, fixed, np):
        return (
            f"the energy is not quadratic in the real-valued units of {units} together; such integrals are not known: "
            f"{INSTEAD}"
        )
    listed = [layer for layer in layers if _states(layer) > 1]
    atoms = tuple((layer.name, atom) for layer in listed for atom in range(layer.atoms))
    return Listing(fixed, None, atoms, tuple(_states(layer) for layer in listed for _ in range(layer.atoms)))


def _left(structure: Structure, fixed: tuple[str, ...], number: int) -> list[tuple[Layer, int | None]]:
    """The layers that a sum over one colour leaves to be listed, and the places of the atoms that it takes from them."""
    summed = dict(structure.colours[number])
    whole = {name for name, place in summed.items() if place is None}
    free = (layer for layer in structure.layers if layer.name not in fixed and layer.name not in whole)
    return [(layer, summed.get(layer.name)) for layer in free]


def _log_size(structure: Structure, arrays: Arrays, fixed: tuple[str, ...], number: int) -> float:
    """The binary logarithm of the number of states that a sum over one colour leaves; infinite where they cannot be listed."""
    total = 0.0
    for layer, place in _left(structure, fixed, number):
        atoms = layer.atoms - (0 if place is None else len(arrays.atoms[place]))
        if atoms:
            listable = KINDS[layer.kind].states(layer.inner) is not None
            total += atoms * math.log2(_states(layer)) if listable else math.inf
    return total


def _states(layer: Layer) -> int:
    """The number of states of an atom's finite part."""
    return len(KINDS[layer.kind].finite(layer.inner))


def log_sums(plan: Listing, machine: Machine, fixed: State) -> Any:
    """The unnormalised log-probability of every listed state given one row of the fixed layers: ``count``."""
    dtype = machine.arrays.biases[machine.structure.visible][0].dtype
    state = plan.states(machine.structure, dtype)
    if plan.colour is None:
        return _integral.log_integrals(machine, state, fixed)
    state |= {name: jnp.broadcast_to(x, (plan.size, *x.shape)) for name, x in fixed.items()}
    return machine.collapsed(_blocks(plan, machine), state)


def log_sum(plan: Listing, machine: Machine, fixed: State) -> Any:
    """The sum over all states of the free layers, for many rows of the fixed ones: ``rows``."""
    if plan.size > 1 or plan.colour is None:
        room = (
            ROWS if plan.colour is not None else max(_integral.at_once(machine.structure, plan.fixed) // plan.size, 1)
        )
        return jax.lax.map(lambda row: logsumexp(log_sums(plan, machine, row)), fixed, batch_size=room)
    rows = len(next(iter(fixed.values())))
    listed = plan.states(machine.structure, next(iter(fixed.values())).dtype)
    state = {name: jnp.broadcast_to(x, (rows, *x.shape[1:])) for name, x in listed.items()} | fixed
    return machine.collapsed(_blocks(plan, machine), state)


def _blocks(plan: Listing, machine: Machine) -> tuple[Block, ...]:
    """The blocks that a plan sums analytically."""
    colour = () if plan.colour is None else machine.colours[plan.colour]
    return tuple(block for block in colour if block.layer.name not in plan.fixed)
