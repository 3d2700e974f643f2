"""Annealed importance sampling between a product distribution and a Boltzmann machine, with one colour summed out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import progress
from ..energy.graph import Colour
from ..energy.machine import Machine, State
from ..energy.path import Fields, Natural, TemperedPath
from ..energy.tempered_units import draw, weigh_and_draw

if TYPE_CHECKING:
    from ..energy.boltzmann import BoltzmannDistribution


class AnnealingPath(TemperedPath):
    r"""A path whose states are weighed at every temperature, with the colour of the most atoms summed out.

    The fields on that colour are computed once per state, and shared by the neighbouring temperatures and the next draw.
    Arguments as for ``TemperedPath``.

    Attributes:
        summed: the colour that is summed out.
        order: the other colours, in the order of a sweep.
    """

    def __init__(self, machine: Machine, base: Natural) -> None:
        super().__init__(machine, base)
        self.summed: Colour = machine.colours[machine.graph.summed]
        self.order: list[Colour] = [c for c in machine.colours if c is not self.summed]

    def log_base(self) -> Tensor:
        """Log Z of the base: the sum of every unit's A."""
        blocks = [self.machine.graph.block(layer) for layer in self.machine.graph.layers]
        log_sums = [self.machine.log_partition(block, self.base_of(block)) for block in blocks]
        return sum(log_sums[1:], start=log_sums[0])

    def start(self, chains: int, batch: torch.Size) -> State:
        """Independent draws from the base."""
        return self.machine.rebound(self.base).neutral_state((chains, *batch))

    def describe(self, state: State) -> Described:
        """The numbers from which the weights of a state at any temperature follow."""
        statistics, whole = self.machine.without(self.summed, self.machine.statistics(state))
        gap_without_summed = self.difference.value(statistics, whole)
        fields = self.fields(self.summed, statistics, self._leading_shape(state))
        return Described(state, gap_without_summed, fields)

    def _leading_shape(self, state: State) -> torch.Size:
        layer, x = next(iter(state.items()))
        return x.shape[: x.dim() - self.machine.graph.layers[layer].event_dim]

    def rise(self, now: Described, before: float, after: float) -> Tensor:
        r"""The change of $\log \sum_{summed} e^{-E_\beta}$ with a change of $\beta$; also draws that colour."""
        total, now.drawn = (after - before) * now.gap_without_summed, []
        for block, fields in zip(self.summed, now.fields, strict=True):
            unit = self.machine.graph.layers[block.layer]
            dims = unit.event_dim - unit.inner_dim
            atoms, drawn = weigh_and_draw(unit, self.base_of(block), fields, before, after)
            now.drawn.append(drawn)
            total = total + (atoms.sum(-1) if block.atoms is not None else atoms.flatten(-dims).sum(-1))
        return total

    def move(self, now: Described, beta: float) -> State:
        """One Gibbs sweep at a temperature, the summed colour first (with the states that ``rise`` drew, if it was called)."""
        state = dict(now.state)
        if now.drawn is None:
            self._draw(self.summed, now.fields, state, beta)
        else:
            for block, drawn in zip(self.summed, now.drawn, strict=True):
                state[block.layer] = self.machine.place(block, state[block.layer], drawn)
        statistics = self.machine.statistics(state)
        for colour in self.order:
            self._draw(colour, self.fields(colour, statistics, self._leading_shape(state)), state, beta)
            statistics |= self.machine.statistics({block.layer: state[block.layer] for block in colour})
        return state

    def _draw(self, colour: Colour, fields: Fields, state: State, beta: float) -> None:
        for block, block_fields in zip(colour, fields, strict=True):
            unit, base = self.machine.graph.layers[block.layer], self.base_of(block)
            new = draw(unit, base, block_fields, base[0].new_tensor([beta]), overwrite=True).squeeze(1)
            state[block.layer] = self.machine.place(block, state[block.layer], new)


@dataclasses.dataclass(slots=True)
class Described:
    """A state, with the numbers from which its weights follow.

    Attributes:
        state: of all layers.
        gap_without_summed: the part of D without the summed colour.
        fields: the fields on the summed colour; a draw may overwrite them.
        drawn: states of the summed colour, drawn at the last temperature that it was weighed at; None before that.
    """

    state: State
    gap_without_summed: Tensor
    fields: Fields
    drawn: list[Tensor] | None = None


def forward_ais(path: AnnealingPath, betas: Tensor, chains: int, batch: torch.Size) -> tuple[Tensor, State]:
    r"""Log weights of annealing from the base to the machine, and the final states.

    $E[e^{\log w}] = Z / Z_{base}$ exactly, so $E[\log w] \le \log Z - \log Z_{base}$.

    Args:
        path: the family of machines.
        betas: inverse temperatures from 0 to 1, increasing.
        chains: the number of independent runs.
        batch: the batch shape of the parameters.
    """
    levels = betas.tolist()
    state = path.start(chains, batch)
    log_weight: Tensor | float = 0.0
    for before, beta in progress.steps(pairwise(levels), "temperatures", len(levels) - 1):
        now = path.describe(state)
        log_weight = log_weight + path.rise(now, before, beta)
        state = path.move(now, beta)
    # If one colour holds all units, the weights do not depend on a chain's state, and have no chain dimension yet.
    return torch.as_tensor(log_weight).expand(chains, *batch), state


def reverse_ais(path: AnnealingPath, betas: Tensor, state: State) -> Tensor:
    r"""Log weights of annealing from states of the machine down to the base.

    $E[e^{\log w}] = Z_{base} / Z$ where the states are exact draws; then $-E[\log w] \ge \log Z - \log Z_{base}$.

    Args:
        path: the family of machines.
        betas: inverse temperatures from 0 to 1, increasing.
        state: draws from the machine, of every layer, ``chains x batch_shape x layer shape``.
    """
    levels = betas.tolist()
    log_weight: Tensor | float = 0.0
    now = path.describe(state)
    for beta, below in progress.steps(pairwise(reversed(levels)), "temperatures, reversed", len(levels) - 1):
        now = path.describe(path.move(now, beta))
        log_weight = log_weight + path.rise(now, beta, below)
    layer, unit = next(iter(path.machine.graph.layers.items()))
    first = state[layer]
    return torch.as_tensor(log_weight).expand(first.shape[: first.dim() - unit.event_dim])


def log_weights(
    dist: BoltzmannDistribution,
    base: Mapping[str, tuple[Tensor, ...]],
    betas: Tensor,
    chains: int,
    batch: torch.Size,
    states: State | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log Z of the base, the log weights of ``forward_ais``, and with ``states`` those of ``reverse_ais``."""
    path = AnnealingPath(dist.machine, base)
    forward = forward_ais(path, betas, chains, batch)[0]
    return path.log_base(), forward, None if states is None else reverse_ais(path, betas, states)
