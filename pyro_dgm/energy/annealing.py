"""Annealed importance sampling between a product distribution and a Boltzmann machine, with one colour summed out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .graph import Colour
from .machine import Machine, State
from .rise import rise

if TYPE_CHECKING:
    from .distribution import BoltzmannDistribution


class AnnealingPath:
    r"""The machines $p_\beta \propto e^{-E_\beta}$ whose fields go from a product distribution's to a machine's.

    $\langle\eta_\beta\rangle = (1-\beta)\,\text{base} + \beta\,(\text{bias} + \text{couplings})$: fields are
    interpolated, not weights. The colour with the most atoms is summed out of every weight, and the couplings' field
    on it is computed once for a state and shared by the neighbouring temperatures and the next draw.

    Args:
        machine: the target, at $\beta = 1$.
        base: natural parameters of the product distribution at $\beta = 0$, for every layer.
    """

    def __init__(self, machine: Machine, base: Mapping[str, tuple[Tensor, ...]]) -> None:
        self.machine = machine
        self.base = Machine(machine.graph, base, machine.weights).biases
        zeros = {layer: tuple(torch.zeros_like(b) for b in entry) for layer, entry in machine.biases.items()}
        self.couplings = _flat_machine(machine, zeros)
        self.collapsed: Colour = machine.colours[machine.graph.collapsed]
        self.order: list[Colour] = [c for c in machine.colours if c is not self.collapsed]

    def log_base(self) -> Tensor:
        """Log Z of the base: the sum of every unit's A."""
        bases = _flat_machine(self.machine, self.base)
        parts = [
            bases.log_partition(block, bases._shaped(block, self.base[block.layer]))
            for block in (self.machine.graph.block(layer) for layer in self.machine.graph.layers)
        ]
        return sum(parts[1:], start=parts[0])

    def biases(self, beta: float) -> dict[str, tuple[Tensor, ...]]:
        """The interpolated biases."""
        return {
            layer: tuple(torch.lerp(b0, b1, beta) for b0, b1 in zip(self.base[layer], entry, strict=True))
            for layer, entry in self.machine.biases.items()
        }

    def start(self, chains: int, batch: torch.Size) -> State:
        """Independent draws from the base."""
        return _flat_machine(self.machine, self.base).neutral_state((chains, *batch))

    def describe(self, state: State) -> _Shared:
        """All that the weights at any temperature need of a state."""
        statistics, whole = self.machine.without(self.collapsed, self.machine.statistics(state))
        target = self.machine._value(statistics, whole)
        base = _dot(self.base, statistics)
        raw = [self.couplings.fields(block, statistics) for block in self.collapsed]
        return _Shared(state, statistics, base, target, raw)

    def rise(
        self,
        shared: _Shared,
        before: tuple[Mapping[str, tuple[Tensor, ...]], float],
        after: tuple[Mapping[str, tuple[Tensor, ...]], float],
    ) -> Tensor:
        r"""What a change of temperature (biases, $\beta$) adds to $\log \sum_{colour} e^{-E_\beta}$ of a described state."""
        total = (after[1] - before[1]) * (shared.target - shared.base)
        shared.eta = self._eta(shared, *after)
        for block, low, high in zip(self.collapsed, self._eta(shared, *before), shared.eta, strict=True):
            unit = self.machine.graph.layers[block.layer]
            atoms, dims = rise(unit, low, high), unit.event_dim - unit.inner_dim
            total = total + (atoms.sum(-1) if block.atoms is not None else atoms.flatten(-dims).sum(-1))
        return total

    def _eta(self, shared: _Shared, biases: Mapping[str, tuple[Tensor, ...]], beta: float) -> list[tuple[Tensor, ...]]:
        fields = []
        for block, raw in zip(self.collapsed, shared.raw, strict=True):
            bias = biases[block.layer]
            if block.entries is not None:
                bias = tuple(b.index_select(-1, block.entries) for b in bias)
            shaped = self.machine._shaped(block, bias)
            fields.append(tuple(torch.add(b, r, alpha=beta) for b, r in zip(shaped, raw, strict=True)))
        return fields

    def move(self, shared: _Shared, biases: Mapping[str, tuple[Tensor, ...]], beta: float) -> State:
        """One Gibbs sweep at a temperature above 0, the summed colour first (at the fields that ``rise`` ended at)."""
        # b + beta f = beta (b / beta + f): the fields then come from one fused product with its bias.
        scaled = {layer: tuple(b / beta for b in entry) for layer, entry in biases.items()}
        machine = _flat_machine(self.machine, scaled)
        state = dict(shared.state)
        first = self._eta(shared, biases, beta) if shared.eta is None else shared.eta
        for block, eta in zip(self.collapsed, first, strict=True):
            state[block.layer] = machine._draw(block, eta, state[block.layer], None, fresh=True)
        shared.eta = None
        statistics = machine.statistics(state)
        for colour in self.order:
            for block in colour:
                eta = tuple(beta * e for e in machine.fields(block, statistics))
                state[block.layer] = machine._draw(block, eta, state[block.layer], None, fresh=True)
                statistics[block.layer] = machine.statistics({block.layer: state[block.layer]})[block.layer]
        return state


class _Shared:
    """A state with what all temperatures share of it."""

    __slots__ = ("base", "eta", "raw", "state", "statistics", "target")

    def __init__(
        self,
        state: State,
        statistics: dict[str, tuple[Tensor, ...]],
        base: Tensor,
        target: Tensor,
        raw: list[tuple[Tensor, ...]],
    ) -> None:
        self.state, self.statistics, self.base, self.target, self.raw = state, statistics, base, target, raw
        self.eta: list[tuple[Tensor, ...]] | None = None


def _flat_machine(machine: Machine, flat_biases: Mapping[str, tuple[Tensor, ...]]) -> Machine:
    """The same couplings with other biases that are flat already."""
    other = object.__new__(Machine)
    other.graph, other.weights, other.biases = machine.graph, machine.weights, dict(flat_biases)
    return other


def _dot(biases: Mapping[str, tuple[Tensor, ...]], statistics: Mapping[str, tuple[Tensor, ...]]) -> Tensor:
    terms = [
        s @ b if b.dim() == 1 else (b * s).sum(-1)
        for layer, entry in statistics.items()
        for b, s in zip(biases[layer], entry, strict=True)
    ]
    return sum(terms[1:], start=terms[0]) if terms else next(iter(biases.values()))[0].new_zeros(())


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
    biases = path.biases(levels[0])
    for before, beta in zip(levels[:-1], levels[1:], strict=True):
        shared = path.describe(state)
        after = path.biases(beta)
        log_weight = log_weight + path.rise(shared, (biases, before), (after, beta))
        state, biases = path.move(shared, after, beta), after
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
    biases = path.biases(levels[-1])
    shared = path.describe(state)
    for beta, below in zip(levels[:0:-1], levels[-2::-1], strict=True):
        shared = path.describe(path.move(shared, biases, beta))
        after = path.biases(below)
        log_weight = log_weight + path.rise(shared, (biases, beta), (after, below))
        biases = after
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
