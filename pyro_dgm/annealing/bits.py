"""Annealing of machines of bits in two colours by the compiled loop over words of bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from .. import progress
from ..energy.machine import State
from ..mcmc.bit_layers import holds_bits, packed
from ..mcmc.kernel import steps_at_once
from ..native import steps_pay, sweeps_pay
from .units import AnnealingPath, reverse_ais

if TYPE_CHECKING:
    from ..energy.boltzmann import BoltzmannDistribution


LONG = 5000
"""The fewest steps of a small machine, at some 0.3 ms each by torch, for which the loop is loaded: that takes half a second, or
some four where it has to be compiled first."""


def loop_pays(dist: BoltzmannDistribution, rows: int, steps: int, against: str = "torch") -> bool:
    """Whether the loop can anneal a distribution, and does so many steps of so many states faster than another engine.

    Args:
        dist: a Boltzmann distribution.
        rows: the number of states.
        steps: temperatures and sweeps.
        against: what would anneal it otherwise, ``"torch"`` or ``"jax"``.
    """
    if not holds_bits(dist) or len(dist.machine.colours) != 2:
        return False
    weights = sum(weight.numel() for weight in dist.machine.weights)
    return steps_pay(rows, weights) or (steps >= LONG and sweeps_pay(rows, weights, against))


class AnnealedBits:
    """A path of machines of bits in two colours, in the form that the loop reads.

    Args:
        dist: the distribution at the end of the path.
        path: the family of machines.
    """

    def __init__(self, dist: BoltzmannDistribution, path: AnnealingPath) -> None:
        self.dist, self.path, self.names = dist, path, list(path.machine.graph.layers)
        self.bits = packed(path.machine, [path.summed, *path.order])
        base = {block.layer: path.base_of(block)[0] for colour in path.machine.colours for block in colour}
        self.base = [base[name] for name in self.names]

    def log_weights(self, levels: Tensor, state: State) -> Tensor | None:
        """Log weights of annealing states through inverse temperatures, ``rows``: the sum over all steps between two levels.

        None where states hold other numbers than bits.
        """
        words = self.bits.pack([state[name] for name in self.names])
        if words is None:
            return None
        rows = words[0].shape[1]
        total, most = levels.new_zeros(rows), steps_at_once(self.dist, rows)
        for step in progress.steps(range(len(levels) - 1), "temperatures"):
            if step % most == 0:
                total += self.bits.anneal(words, self.base, len(self.path.summed), levels[step : step + most + 1])
        return total.to(self.base[0])

    def forward(self, betas: Tensor, chains: int) -> Tensor:
        """Log weights as of ``forward_ais``, from draws of the base, which are bits."""
        return cast(Tensor, self.log_weights(betas.double(), self.path.start(chains, torch.Size())))

    def reverse(self, betas: Tensor, state: State) -> Tensor:
        """Log weights as of ``reverse_ais``, which takes states that hold other numbers than bits, such as grey levels.

        The loop's first step leaves the temperature where it is, and adds nothing.
        """
        found = self.log_weights(torch.cat([betas[-1:], betas.flip(0)]).double(), state)
        return reverse_ais(self.path, betas, state) if found is None else found


def log_weights(
    dist: BoltzmannDistribution,
    base: Mapping[str, tuple[Tensor, ...]],
    betas: Tensor,
    chains: int,
    batch: torch.Size,
    states: State | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The weights of ``units.log_weights``, of a machine that ``loop_pays`` for."""
    annealed = AnnealedBits(dist, AnnealingPath(dist.machine, base))
    forward = annealed.forward(betas, chains)
    return annealed.path.log_base(), forward, None if states is None else annealed.reverse(betas, states)


def sweeper(dist: BoltzmannDistribution) -> Callable[[State, int], State]:
    """Gibbs sweeps of states of a machine of bits by the loop."""
    names, bits = list(dist.machine.graph.layers), packed(dist.machine)

    def sweep(state: State, sweeps: int) -> State:
        while sweeps:
            words = bits.pack([state[name] for name in names])
            if words is None:  # rows that are no bits become bits by a sweep
                state, sweeps = dist.machine.sweep(state), sweeps - 1
                continue
            steps = min(sweeps, steps_at_once(dist, words[0].shape[1]))
            bits.sweep(words, steps)
            state = {name: x.view(state[name].shape) for name, x in zip(names, bits.unpack(words), strict=True)}
            sweeps -= steps
        return state

    return sweep
