"""Annealed importance sampling between a product distribution and a Boltzmann machine, with one colour summed out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .graph import Colour
from .machine import Machine, State
from .path import Fields, Natural, TemperedPath
from .tempered_units import at, rise

if TYPE_CHECKING:
    from .distribution import BoltzmannDistribution


class AnnealingPath(TemperedPath):
    r"""A path whose states are weighed at every temperature, with the colour of the most atoms summed out.

    The fields on it are computed once for a state and shared by the neighbouring temperatures and the next draw. Arguments
    as for ``TemperedPath``.
    """

    def __init__(self, machine: Machine, base: Natural) -> None:
        super().__init__(machine, base)
        self.collapsed: Colour = machine.colours[machine.graph.collapsed]
        self.order: list[Colour] = [c for c in machine.colours if c is not self.collapsed]

    def log_base(self) -> Tensor:
        """Log Z of the base: the sum of every unit's A."""
        blocks = [self.machine.graph.block(layer) for layer in self.machine.graph.layers]
        parts = [self.machine.log_partition(block, self.base_of(block)) for block in blocks]
        return sum(parts[1:], start=parts[0])

    def start(self, chains: int, batch: torch.Size) -> State:
        """Independent draws from the base."""
        return self.machine.rebound(self.base).neutral_state((chains, *batch))

    def describe(self, state: State) -> Described:
        """All that the weights at any temperature need of a state."""
        statistics, whole = self.machine.without(self.collapsed, self.machine.statistics(state))
        rest = self.difference._value(statistics, whole)
        return Described(state, statistics, rest, self.fields(self.collapsed, statistics))

    def rise(self, now: Described, before: float, after: float) -> Tensor:
        r"""What a change of $\beta$ adds to $\log \sum_{colour} e^{-E_\beta}$ of a described state."""
        total, now.eta = (after - before) * now.rest, []
        for block, fields in zip(self.collapsed, now.fields, strict=True):
            unit = self.machine.graph.layers[block.layer]
            dims = unit.event_dim - unit.inner_dim
            atoms, eta = rise(unit, self.base_of(block), fields, before, after)
            now.eta.append(eta)
            total = total + (atoms.sum(-1) if block.atoms is not None else atoms.flatten(-dims).sum(-1))
        return total

    def move(self, now: Described, beta: float) -> State:
        """One Gibbs sweep at a temperature, the summed colour first (at the fields that ``rise`` ended at)."""
        state = dict(now.state)
        known: Sequence[Any] = [None] * len(self.collapsed) if now.eta is None else now.eta
        now.eta = None
        for block, fields, eta in zip(self.collapsed, now.fields, known, strict=True):
            eta = at(beta, self.base_of(block), fields) if eta is None else eta
            state[block.layer] = self.machine._draw(block, eta, state[block.layer], None, fresh=True)
        statistics = self.machine.statistics(state)
        for colour in self.order:
            for block in colour:
                eta = at(beta, self.base_of(block), self.difference.fields(block, statistics))
                state[block.layer] = self.machine._draw(block, eta, state[block.layer], None, fresh=True)
                statistics[block.layer] = self.machine.statistics({block.layer: state[block.layer]})[block.layer]
        return state


@dataclasses.dataclass(slots=True)
class Described:
    """A state with what all temperatures share of it: its statistics without the summed colour, D of those, and the fields.

    ``eta`` are the summed colour's natural parameters at the last temperature that it was weighed at; drawing takes them away.
    """

    state: State
    statistics: dict[str, tuple[Tensor, ...]]
    rest: Tensor
    fields: Fields
    eta: Fields | None = None


def forward_ais(path: AnnealingPath, betas: Tensor, chains: int, batch: torch.Size) -> tuple[Tensor, State]:
    r"""Log weights of annealing from the base to the machine, and the final states.

    $E[e^{\log w}] = Z / Z_{base}$ exactly, so $E[\log w] \le \log Z - \log Z_{base}$.

    Args:
        path: the family of machines.
        betas: inverse temperatures from 0 to 1, increasing.
        chains: how many independent runs.
        batch: the batch shape of the parameters.
    """
    levels = betas.tolist()
    state = path.start(chains, batch)
    log_weight: Tensor | float = 0.0
    for before, beta in pairwise(levels):
        now = path.describe(state)
        log_weight = log_weight + path.rise(now, before, beta)
        state = path.move(now, beta)
    # Where one colour holds all units nothing depends on a chain's state, and the weights have no chain dimension yet.
    return torch.as_tensor(log_weight).expand(chains, *batch), state


def reverse_ais(path: AnnealingPath, betas: Tensor, state: State) -> Tensor:
    r"""Log weights of annealing from states of the machine down to the base.

    $E[e^{\log w}] = Z_{base} / Z$ where the states are exact draws; then $-E[\log w] \ge \log Z - \log Z_{base}$.

    Args:
        path: the family of machines.
        betas: inverse temperatures from 0 to 1, increasing.
        state: draws from the machine, every layer, ``chains x batch_shape x layer shape``.
    """
    levels = betas.tolist()
    log_weight: Tensor | float = 0.0
    now = path.describe(state)
    for beta, below in pairwise(reversed(levels)):
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


def temperatures(ladder: int | Sequence[float] | Tensor) -> Tensor:
    """Inverse temperatures from 0 to 1, in double precision.

    Args:
        ladder: how many (a quarter of them below 0.5, a quarter up to 0.9, the rest above, after Salakhutdinov and
            Murray 2008); or the inverse temperatures themselves.

    Raises:
        ValueError: fewer than two, or no increasing sequence of numbers from 0 to 1.
    """
    if not isinstance(ladder, int):
        return _checked(ladder)
    if ladder < 2:
        raise ValueError(f"temperatures got {ladder}; expected at least 2 (the two ends of the path)")
    if ladder < 8:
        return torch.linspace(0, 1, ladder, dtype=torch.float64)
    quarter = ladder // 4
    return torch.cat(
        [
            torch.linspace(0, 0.5, quarter + 1, dtype=torch.float64)[:-1],
            torch.linspace(0.5, 0.9, quarter + 1, dtype=torch.float64)[:-1],
            torch.linspace(0.9, 1.0, ladder - 2 * quarter, dtype=torch.float64),
        ]
    )


def _checked(ladder: Sequence[float] | Tensor) -> Tensor:
    try:
        betas = torch.as_tensor(ladder, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        betas = torch.empty(())
    if betas.dim() != 1 or len(betas) < 2:
        raise ValueError(
            f"temperatures got {ladder!r}; expected at least 2 inverse temperatures, from 0 to 1, or their number"
        )
    expected = "expected inverse temperatures that increase from exactly 0 (the base) to exactly 1 (the model)"
    falls = (~(betas[1:] > betas[:-1])).nonzero()
    if len(falls):
        place = int(falls[0])
        pair = " and then ".join(f"{beta:g}" for beta in betas[place : place + 2].tolist())
        raise ValueError(f"temperatures got {pair} at places {place} and {place + 1}; {expected}")
    if betas[0] != 0 or betas[-1] != 1:
        raise ValueError(f"temperatures got a sequence from {float(betas[0]):g} to {float(betas[-1]):g}; {expected}")
    return betas


def log_mean_exp(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean weight along the first dimension, and its standard error by the delta method."""
    count = log_weight.shape[0]
    mean = torch.logsumexp(log_weight, 0) - math.log(count)
    relative = torch.exp(log_weight - mean)
    return mean, relative.std(0) / math.sqrt(count) if count > 1 else torch.full_like(mean, math.inf)
