"""Many steps of many chains in one compiled call; code is compiled once per structure and shapes of its arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ._listing import Listing, log_sum
from ._samplers import Sampler
from ._structure import Structure

Carry = dict[str, Any]


class Plan(NamedTuple):
    """The fixed part of compiled code: the sampler, the graph, the layers to keep, and how a free energy is summed, if it is."""

    sampler: Callable[..., Sampler]
    structure: Structure
    layers: tuple[str, ...]
    hidden: Listing | str


class Moments(NamedTuple):
    """Count, mean and summed squared deviations of draws by layer."""

    count: Any
    mean: dict[str, Any]
    squares: dict[str, Any]


@partial(jax.jit, static_argnames="plan")
def advance(plan: Plan, data: tuple[Any, ...], carry: Carry, key: Any, steps: Any) -> tuple[Carry, Any]:
    """The carry and the key after some steps."""
    return _steps(plan.sampler(plan.structure, *data), carry, key, steps)


@partial(jax.jit, static_argnames=("plan", "room"))
def collect(
    plan: Plan, data: tuple[Any, ...], carry: Carry, key: Any, draws: Any, thinning: Any, room: int
) -> tuple[Carry, Any, dict[str, Any]]:
    """The carry, the key and the kept layers, ``room x chains x layer shape``, of which the first ``draws`` are filled."""
    sampler = plan.sampler(plan.structure, *data)
    drawn = sampler.draws(carry)
    kept = {name: jnp.zeros((room, *drawn[name].shape), drawn[name].dtype) for name in plan.layers}

    def one(number: Any, now: Any) -> Any:
        carry, key, kept = now
        carry, key = _steps(sampler, carry, key, thinning)
        drawn = sampler.draws(carry)
        return carry, key, {name: x.at[number].set(drawn[name]) for name, x in kept.items()}

    return lax.fori_loop(0, draws, one, (carry, key, kept))


@partial(jax.jit, static_argnames=("plan", "room"))
def summarise(
    plan: Plan, data: tuple[Any, ...], carry: Carry, key: Any, draws: Any, thinning: Any, room: int
) -> tuple[Carry, Any, dict[str, Any], Moments]:
    """The carry, the key, the energies of every draw, and the moments of all draws; otherwise as ``collect``."""
    sampler = plan.sampler(plan.structure, *data)
    drawn = sampler.draws(carry)
    zeros = {name: jnp.zeros_like(drawn[name]) for name in plan.layers}
    kept = {name: jnp.zeros((room, *e.shape), e.dtype) for name, e in _energies(plan, sampler, drawn).items()}

    def one(number: Any, now: Any) -> Any:
        carry, key, kept, (count, mean, squares) = now
        carry, key = _steps(sampler, carry, key, thinning)
        drawn = sampler.draws(carry)
        energies = _energies(plan, sampler, drawn)
        count = count + 1
        after = {name: m + (drawn[name] - m) / count for name, m in mean.items()}
        squares = {name: s + (drawn[name] - mean[name]) * (drawn[name] - after[name]) for name, s in squares.items()}
        kept = {name: x.at[number].set(energies[name]) for name, x in kept.items()}
        return carry, key, kept, Moments(count, after, squares)

    return lax.fori_loop(0, draws, one, (carry, key, kept, Moments(jnp.zeros(()), zeros, zeros)))


def _steps(sampler: Sampler, carry: Carry, key: Any, steps: Any) -> tuple[Carry, Any]:
    def one(_: Any, now: Any) -> Any:
        carry, key = now
        key, step_key = jax.random.split(key)
        return sampler.step(carry, step_key), key

    return lax.fori_loop(0, steps, one, (carry, key))


def _energies(plan: Plan, sampler: Sampler, state: dict[str, Any]) -> dict[str, Any]:
    machine = sampler.machine
    energies = {"energy": -machine.value(machine.statistics(state))}
    if isinstance(plan.hidden, Listing):
        energies["free_energy"] = -log_sum(plan.hidden, machine, {name: state[name] for name in plan.hidden.fixed})
    return energies
