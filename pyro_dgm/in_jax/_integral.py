"""Gaussian integrals over real-valued units of several colours together, one for every state of all other units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._machine import Machine, State
from ._structure import Arrays, Structure
from ._units import KINDS

LARGEST = 12
"""The largest binary logarithm of the number of integrals that are taken."""

NUMBERS = 1 << 18
"""Numbers in the quadratic forms that are taken at once."""


class Form(NamedTuple):
    r"""$-E = c + g^\top r - \tfrac12 r^\top A r$ of the real-valued entries r, with $A = L L^\top$."""

    constant: Any
    slope: Any
    root: Any
    r"""$L^{-1}$."""

    def log_integral(self) -> Any:
        r"""$\log \int e^{-E} dr$."""
        volume = 0.5 * len(self.slope) * math.log(2 * math.pi) + jnp.log(jnp.diagonal(self.root)).sum()
        return self.constant + 0.5 * jnp.square(self.root @ self.slope).sum() + volume

    def draw(self, noise: Any) -> Any:
        """A draw of r from its Gaussian, by standard normal numbers."""
        return (self.root @ self.slope + noise) @ self.root


@jax.custom_jvp
def inverse_root(form: Any) -> Any:
    r"""$L^{-1}$ of a positive definite matrix $L L^\top$, by elimination in place; NaN for any other matrix.

    LAPACK takes JAX's Cholesky factors, and on processors two batches of them at once may wait for each other for ever (jaxlib
    0.10.2, two threads).

    Args:
        form: ``n x n``.
    """
    places = jnp.arange(len(form))

    def eliminate(number: Any, rows: Any) -> Any:
        column = rows[:, number] / jnp.sqrt(rows[number, number])
        rows = rows.at[:, number].set((places == number).astype(rows.dtype))
        pivot = rows[number] / column[number]
        rows = rows - jnp.where(places > number, column, 0.0)[:, None] * pivot
        return rows.at[number].set(pivot)

    return jnp.tril(jax.lax.fori_loop(0, len(form), eliminate, form))


@inverse_root.defjvp
def _inverse_root_jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    root = inverse_root(*primals)
    within = root @ (tangents[0] + tangents[0].T) @ root.T / 2
    return root, (0.5 * jnp.diag(jnp.diagonal(within)) - jnp.tril(within)) @ root


def reals(structure: Structure, fixed: Sequence[str]) -> dict[str, Any]:
    """The flat places of the real-valued entries of every layer that is not fixed; layers without any are left out."""
    places = {}
    for layer in structure.layers:
        inside = np.flatnonzero(KINDS[layer.kind].degrees(layer.inner)[0])
        if layer.name not in fixed and len(inside):
            places[layer.name] = (layer.inner * np.arange(layer.atoms)[:, None] + inside).reshape(-1)
    return places


def at_once(structure: Structure, fixed: Sequence[str]) -> int:
    """The number of integrals that are taken at once: a power of two, as the number of states often is, to divide it."""
    room = NUMBERS // sum(len(place) for place in reals(structure, fixed).values()) ** 2
    return 1 << max(room.bit_length() - 1, 0)


def quadratic(structure: Structure, arrays: Arrays, fixed: Sequence[str], xp: Any) -> Any:
    """Whether no weight couples entries whose product is of a higher order than two in the real-valued units.

    Args:
        structure: the graph.
        arrays: its numbers.
        fixed: the given layers.
        xp: NumPy, or ``jax.numpy`` for traced numbers.
    """
    sound: Any = True
    for coupling, weight, edges in zip(structure.couplings, arrays.weights, arrays.edges, strict=True):
        first, second = (_degrees(structure, name, statistic, fixed) for name, statistic in coupling.ends)
        if first.max() + second.max() > 2:
            if edges is not None:
                first, second = (xp.asarray(x)[edges[:, end]] for end, x in enumerate((first, second)))
            order = (first if edges is not None else first[:, None]) + second
            sound = sound & ~((order > 2) & (weight != 0)).any()
    return sound


def _degrees(structure: Structure, name: str, statistic: int, fixed: Sequence[str]) -> Any:
    """The order of every entry of a layer's statistic in the real-valued units that are not fixed."""
    layer = structure.layer(name)
    inside = KINDS[layer.kind].degrees(layer.inner)[statistic]
    return np.tile(0 * inside if name in fixed else inside, layer.atoms)


def form(machine: Machine, state: State, fixed: Sequence[str]) -> Form:
    """The quadratic form at one state of all layers, which has zeros for the real-valued entries.

    Slope and curvature are derivatives of -E at zero, by which a quadratic function is known everywhere. Where -E is not
    quadratic or has no integral, the numbers are NaN.
    """
    places = reals(machine.structure, fixed)
    ends = np.cumsum([len(place) for place in places.values()])

    def value(r: Any) -> Any:
        return machine.value(machine.statistics(_filled(machine, state, places, jnp.split(r, ends[:-1]))))

    zero = jnp.zeros(ends[-1], machine.arrays.biases[machine.structure.visible][0].dtype)
    slope, push = jax.linearize(jax.grad(value), zero)
    curvature = jax.vmap(push)(jnp.eye(len(zero), dtype=zero.dtype))
    sound = quadratic(machine.structure, machine.arrays, fixed, jnp)
    constant, slope = (jnp.where(sound, x, jnp.nan) for x in (value(zero), slope))
    return Form(constant, slope, inverse_root(-curvature))


def log_integrals(machine: Machine, states: State, given: State) -> Any:
    """The log-integrals for states of all layers that are not given, and one row of the given ones: ``count``."""

    def one(state: State) -> Any:
        return form(machine, state | given, tuple(given)).log_integral()

    # Checkpoints: the backward pass computes the forms anew instead of keeping all of them.
    return jax.lax.map(jax.checkpoint(one), states, batch_size=at_once(machine.structure, tuple(given)))


def draw(machine: Machine, states: State, key: Any) -> State:
    """All layers, with the real-valued entries drawn given the others: ``count x layer shape``."""
    places = reals(machine.structure, ())
    ends = np.cumsum([len(place) for place in places.values()])

    def one(pair: tuple[State, Any]) -> State:
        state, noise = pair
        return _filled(machine, state, places, jnp.split(form(machine, state, ()).draw(noise), ends[:-1]))

    first = next(iter(states.values()))
    noise = jax.random.normal(key, (len(first), ends[-1]), first.dtype)
    return jax.lax.map(one, (states, noise), batch_size=at_once(machine.structure, ()))


def _filled(machine: Machine, state: State, places: dict[str, Any], parts: Sequence[Any]) -> State:
    """A state with real-valued entries, which were zeros, at offsets from their origins."""
    filled = dict(state)
    for (name, place), numbers in zip(places.items(), parts, strict=True):
        entries = numbers + machine.arrays.origins.get(name, 0.0)
        filled[name] = state[name].reshape(-1).at[place].set(entries).reshape(state[name].shape)
    return filled
