"""One compiled step: a Gibbs sweep, or a step of parallel tempering."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ._machine import Block, Machine, State
from ._structure import Arrays, Structure

Clamp = Mapping[str, tuple[Any, Any]]


class Sampler(ABC):
    """A transition of many chains; it carries along a dictionary of arrays that holds ``"state"``."""

    machine: Machine

    @abstractmethod
    def step(self, carry: dict[str, Any], key: Any) -> dict[str, Any]:
        """One transition of every chain."""

    def draws(self, carry: dict[str, Any]) -> State:
        """The part of the state that follows the machine's distribution."""
        return carry["state"]


class GibbsSampler(Sampler):
    """A sampler whose step is one sweep over the colours."""

    def __init__(self, structure: Structure, arrays: Arrays, clamp: Clamp) -> None:
        self.machine, self.clamp = Machine(structure, arrays, terms=2), clamp

    def step(self, carry: dict[str, Any], key: Any) -> dict[str, Any]:
        return {"state": self.machine.sweep(carry["state"], key, self.clamp)}


class TemperingSampler(Sampler):
    r"""Swaps of neighbouring replicas, even pairs and then odd ones, and a sweep of all replicas.

    Carries the state, ``{layer: chains x temperatures x layer shape}``, the summed swap probabilities of every pair
    (``"rate"``), and, to count round trips, which replicas were at $\beta = 0$ last and how many have come up from there.
    """

    def __init__(
        self, structure: Structure, arrays: Arrays, clamp: Clamp, base: Mapping[str, tuple[Any, ...]], betas: Any
    ) -> None:
        self.machine, self.clamp = Machine(structure, arrays, terms=2), clamp
        self.base, self.betas = base, betas

    def draws(self, carry: dict[str, Any]) -> State:
        return {name: x[:, -1] for name, x in carry["state"].items()}

    def step(self, carry: dict[str, Any], key: Any) -> dict[str, Any]:
        machine, state = self.machine, dict(carry["state"])
        swap_key, draw_key = jax.random.split(key)
        statistics = machine.statistics(state)
        first = [machine.raw(block, statistics) for block in machine.colours[0]]
        order, rate = self._swaps(self._gap(first, statistics), swap_key)
        state = {name: _taken(x, order) for name, x in state.items()}
        first = [tuple(_taken(f, order) for f in fields) for fields in first]
        statistics = machine.statistics(state)
        for number, (colour, colour_key) in enumerate(
            zip(machine.colours, jax.random.split(draw_key, len(machine.colours)), strict=True)
        ):
            for place, block in enumerate(colour):
                raw = first[place] if number == 0 else machine.raw(block, statistics)
                machine.draw(
                    block, self._eta(block, raw), state, statistics, jax.random.fold_in(colour_key, place), self.clamp
                )
        from_base = _taken(carry["from_base"], order)
        trips = carry["trips"] + from_base[:, -1]
        from_base = from_base.at[:, -1].set(False).at[:, 0].set(True)
        return {"state": state, "rate": carry["rate"] + rate.mean(0), "from_base": from_base, "trips": trips}

    def _gap(self, first: list[tuple[Any, ...]], statistics: dict[str, tuple[Any, ...]]) -> Any:
        """D, one value per replica; the first colour's fields, which the draw needs too, give the part of its couplings."""
        machine = self.machine
        others = machine.without(machine.colours[0], statistics)
        total = machine.coupled(others, machine.colours[0])
        for name, layer_statistics in statistics.items():
            for t, target, base in zip(layer_statistics, machine.arrays.biases[name], self.base[name], strict=True):
                total = total + t @ (target - base)
        for block, fields in zip(machine.colours[0], first, strict=True):
            for t, field in zip(statistics[block.layer.name], fields, strict=True):
                chosen = t if block.entries is None else t[..., block.entries]
                total = total + (chosen * field.reshape(chosen.shape)).sum(-1)
        return total

    def _swaps(self, gap: Any, key: Any) -> tuple[Any, Any]:
        """The place that every replica comes from, ``chains x temperatures``, and every pair's swap probability."""
        number = gap.shape[1]
        steps, even = jnp.diff(self.betas), jnp.arange(number - 1) % 2 == 0
        thresholds = -jax.random.exponential(key, (gap.shape[0], number - 1), gap.dtype)
        places = jnp.arange(number)
        first = steps * (gap[:, :-1] - gap[:, 1:])
        order = places + _crossing((thresholds < first) & even)
        gap = jnp.take_along_axis(gap, order, 1)
        second = steps * (gap[:, :-1] - gap[:, 1:])
        then = places + _crossing((thresholds < second) & ~even)
        return jnp.take_along_axis(order, then, 1), jnp.exp(jnp.minimum(jnp.where(even, first, second), 0.0))

    def _eta(self, block: Block, raw: tuple[Any, ...]) -> tuple[Any, ...]:
        """Natural parameters at every temperature."""
        naturals = []
        for bias, base, field in zip(block.bias, self.base[block.layer.name], raw, strict=True):
            base = (base if block.entries is None else base[block.entries]).reshape(bias.shape)
            betas = self.betas.reshape(-1, *(1 for _ in bias.shape))
            naturals.append(base + betas * (bias - base + field))
        return tuple(naturals)


def _taken(x: Any, order: Any) -> Any:
    return jnp.take_along_axis(x, order.reshape(*order.shape, *(1 for _ in x.shape[2:])), 1)


def _crossing(accepted: Any) -> Any:
    """The step from each place to that of its new replica, given which pairs swap: -1, 0 or 1."""
    return jnp.diff(jnp.pad(accepted.astype(int), ((0, 0), (1, 1))), axis=1)
