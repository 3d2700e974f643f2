"""Conditional probabilities of single observed units given all others, with the hidden units summed out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...energy import BoltzmannDistribution, EnergyDistribution, State

ROWS = 8192
"""The most changed rows that go through the free energy at once."""

_STEP, _TAIL = 0.8, 8.0
"""Nodes of a real unit's integral: their distance, and how far they reach beyond all means, in standard deviations.

The trapezoid rule errs by some exp(-2 pi² / 0.8²) = 4e-14, and leaves out exp(-8² / 2) = 1e-14.
"""
_NODES = 4096


def distribution_of(model: Any, name: str) -> EnergyDistribution:
    """The energy distribution that a model returns when called without a context.

    Raises:
        ValueError: it returns none.
    """
    try:
        dist = model()
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"{name} trains models whose call returns an energy distribution; {type(model).__name__} has none: {error}"
        ) from None
    if not isinstance(dist, EnergyDistribution):
        raise ValueError(
            f"{name} trains models whose call returns an energy distribution; {type(model).__name__} returns "
            f"{type(dist).__name__}"
        )
    return dist


def observed(model: Any, dist: EnergyDistribution, x: Tensor) -> tuple[Tensor, State]:
    """The visible states that rows hold, and those of further layers (labels, say)."""
    states = dict(model.observed(x)) if hasattr(model, "observed") else {dist.visible: x}
    return states.pop(dist.visible), states


def boltzmann(dist: EnergyDistribution, name: str) -> BoltzmannDistribution:
    """The distribution, refused where it has no units.

    Raises:
        ValueError: it is no Boltzmann distribution.
    """
    if not isinstance(dist, BoltzmannDistribution):
        raise ValueError(f"{name} got a {type(dist).__name__}; expected a Boltzmann distribution, as rbm() returns it")
    return dist


def two_states(dist: BoltzmannDistribution) -> bool:
    """Whether the visible atoms are numbers with two values."""
    unit = dist.machine.graph.layers[dist.visible]
    return unit.states_per_atom == 2 and not unit.inner_dim


def check_two_states(dist: EnergyDistribution, name: str) -> None:
    """Refuse visible units other than numbers with two values.

    Raises:
        ValueError: the distribution is no Boltzmann distribution, or its visible units do not have two states.
    """
    if not two_states(boltzmann(dist, name)):
        raise ValueError(
            f"{name} got visible units {boltzmann(dist, name).machine.graph.layers[dist.visible]}; expected units with two "
            "states (Binary or Spin), since it flips them one by one. For Gaussian units there are dgm.PseudoLikelihood and "
            "dgm.NoiseContrastive"
        )


def check_conditional(dist: EnergyDistribution, name: str) -> None:
    """Refuse visible units whose conditional probabilities are not known.

    Raises:
        ValueError: the distribution is no Boltzmann distribution, or its visible units have neither two states nor conditional
            densities that are sums over finite units.
    """
    if not two_states(boltzmann(dist, name)):
        _reach(boltzmann(dist, name), {}, name)


def log_conditionals(dist: BoltzmannDistribution, x: Tensor, entries: int | None, name: str) -> tuple[Tensor, float]:
    r"""$\log p(x_i \mid x_{-i})$ in nats, ``rows x entries``, and the number of units that each entry stands for.

    Args:
        dist: a Boltzmann distribution; where other layers are given, they are so in every conditional.
        x: rows, ``n x event_shape``.
        entries: the number of units per row, drawn at random without replacement; ``None`` takes all.
        name: the name of the caller, for the message.

    Raises:
        ValueError: as ``check_conditional``.
    """
    check_conditional(dist, name)
    if two_states(dist):
        log_odds, scale = flips(dist, x, entries, name)
        return F.logsigmoid(log_odds), scale
    return _densities(dist, x, entries, name)


def flips(dist: BoltzmannDistribution, x: Tensor, entries: int | None, name: str) -> tuple[Tensor, float]:
    r"""$\log p(x) / p(\tilde x_i) = F(\tilde x_i) - F(x)$ for every row and flipped unit i, and the scale of their sum.

    Args:
        dist: a Boltzmann distribution with two-state visibles.
        x: rows, ``n x event_shape``.
        entries: the number of units per row that are flipped, drawn at random without replacement; ``None`` flips all.
        name: the name of the caller, for the message.

    Returns:
        The log odds, ``n x entries``, and the number of units that each entry stands for, ``units / entries``.

    Raises:
        ValueError: the visible units do not have two states.
    """
    check_two_states(dist, name)
    low, high = dist.machine.graph.layers[dist.visible].atom_states(x)
    columns, scale = _columns(x, entries)
    free_energies = []
    for chunk in columns.split(max(ROWS // len(x), 1), dim=1):
        own = x.flatten(1).gather(1, chunk)
        free_energies.append(_changed(dist, x, chunk, (low + high - own).unsqueeze(-1)).squeeze(-1))
    return torch.cat(free_energies, 1) - dist.free_energy(x).unsqueeze(-1), scale


def state_log_probabilities(
    dist: BoltzmannDistribution, x: Tensor, others: State, layer: str
) -> Iterator[tuple[Tensor, Tensor]]:
    r"""For every atom of one of the other observed layers, $\log p(s \mid \text{all else observed})$ of its states.

    Args:
        dist: the distribution, with nothing given.
        x: visible rows.
        others: the states of the other observed layers.
        layer: one of them, of finite units.

    Yields:
        Those of the states, ``rows x states``, and of the atom's own state, ``rows``.
    """
    unit, own = dist.machine.graph.layers[layer], others[layer]
    dims = unit.event_dim - unit.inner_dim
    states = unit.atom_states(own).view(-1, 1, *unit.shape[dims:])
    count = len(states)
    for atom in range(unit.atoms):
        changed = own.expand(count, *own.shape).flatten(2, 1 + dims).clone()
        changed[:, :, atom] = states.expand(count, len(own), *states.shape[2:])
        given = dist.given({**others, layer: changed.view(count, *own.shape)})
        log_p = (-given.free_energy(x.expand(count, *x.shape))).log_softmax(0)
        is_own = (states == own.flatten(1, dims)[:, atom]).reshape(count, len(own), -1).all(-1)
        yield log_p.t(), (log_p * is_own).sum(0)


def _columns(x: Tensor, entries: int | None) -> tuple[Tensor, float]:
    """The columns of the units that are looked at, ``rows x entries``, and the number that each stands for."""
    n, size = len(x), x.shape[1:].numel()
    if entries is None or entries >= size:
        return torch.arange(size, device=x.device).expand(n, size), 1.0
    return torch.rand(n, size, device=x.device).topk(entries, dim=1).indices, size / entries


def _changed(dist: BoltzmannDistribution, x: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """F of rows with one column at another value: ``rows x entries x values``."""
    n, count = values.shape[0], values.shape[1] * values.shape[2]
    index = columns.unsqueeze(-1).expand(values.shape).reshape(n, count, 1)
    copies = x.flatten(1).unsqueeze(1).expand(n, count, x.shape[1:].numel())
    changed = copies.scatter(-1, index, values.reshape(n, count, 1)).unflatten(-1, x.shape[1:])
    # With a context, or with other layers given, every row has its own machine: the changes then lie in front of the rows.
    by_row = bool(dist.batch_shape)
    if not by_row:
        return dist.free_energy(changed.flatten(0, 1)).view(values.shape)
    return dist.free_energy(changed.transpose(0, 1)).t().reshape(values.shape)


def _densities(dist: BoltzmannDistribution, x: Tensor, entries: int | None, name: str) -> tuple[Tensor, float]:
    r"""Conditional log-densities of Gaussian units: $-F(x)$ less the log of its integral over $x_i$, by the trapezoid rule.

    The integrand is a mixture over the hidden states of normal densities of one variance, which is known, and so is the range
    of their means.
    """
    with torch.no_grad():
        middle, reach, deviation = (t.expand(x.shape).flatten(1) for t in _reach(dist, {dist.visible: x}, name))
        reach = reach + _TAIL * deviation
        nodes = math.ceil(float((2 * reach / (_STEP * deviation)).max())) + 1
        if not nodes <= _NODES:
            raise ValueError(
                f"{name} got weights so large that a conditional density is spread over {nodes * _STEP:.3g} of its standard "
                "deviations; make them smaller (a smaller learning rate), or standardise the data"
            )
        place = torch.linspace(-1, 1, nodes, dtype=x.dtype, device=x.device)
    columns, scale = _columns(x, entries)
    free_energy, result = dist.free_energy(x).unsqueeze(-1), []
    for chunk in columns.split(max(ROWS // (len(x) * nodes), 1), dim=1):
        centre, width = middle.gather(1, chunk).unsqueeze(-1), reach.gather(1, chunk).unsqueeze(-1)
        integral = (-_changed(dist, x, chunk, centre + width * place)).logsumexp(-1)
        result.append(-free_energy - integral - (2 * width.squeeze(-1) / (nodes - 1)).log())
    return torch.cat(result, 1), scale


def _reach(dist: BoltzmannDistribution, state: State, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The middle and half the range of the visible units' conditional means, and their standard deviations.

    Raises:
        ValueError: the visible units are not Gaussian with couplings of their values to finite units and to each other.
    """
    machine = dist.machine
    unit = machine.graph.layers[dist.visible]
    seen = machine.statistics({**state, **dist.known})
    if unit.statistics != ("x", "x2"):
        raise ValueError(f"{name} got visible units {unit}; expected units with two states, or Gaussian ones")
    precision = -2 * machine.biases[dist.visible][1]
    middle, half = machine.biases[dist.visible][0], torch.zeros_like(precision)
    for number, position in machine.graph.touching[dist.visible]:
        interaction, weight = machine.graph.interactions[number], machine.weights[number]
        others = [end for place, end in enumerate(interaction.ends) if place != position]
        if interaction.ends[position].statistic or len(others) > 1:
            raise ValueError(
                f"{name} got Gaussian units whose variance depends on {' and '.join(repr(end.layer) for end in others)}, so "
                "that the range of their conditional densities is not known; use dgm.PCD"
            )
        other = machine.graph.layers[others[0].layer]
        if others[0].layer in seen:
            middle = middle + interaction.field(position, seen, weight)
        elif others[0].layer != dist.visible:
            if other.states_per_atom is None:
                raise ValueError(
                    f"{name} got Gaussian units coupled to the real-valued {others[0].layer!r}; expected finite hidden units, "
                    "over which a conditional density is a sum. Use dgm.PCD"
                )
            ends = _ends(other, others[0].statistic, precision)
            statistics = [
                {others[0].layer: tuple(part for _ in other.statistics)}
                for part in ((ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2)
            ]
            middle = middle + interaction.field(position, statistics[0], weight)
            half = half + interaction.field(position, statistics[1], weight.abs())
    centre, reach, deviation = (
        t.unflatten(-1, unit.shape) for t in (middle / precision, half / precision, precision.rsqrt())
    )
    return unit.real_from_origin(centre), reach, deviation


def _ends(unit: Any, statistic: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value of a finite layer's statistic, flat."""
    inner = unit.shape[unit.event_dim - unit.inner_dim :]
    values = unit.T(unit.atom_states(like).view(-1, *inner))[statistic].reshape(unit.states_per_atom, -1)
    return values.amin(0).repeat(unit.atoms), values.amax(0).repeat(unit.atoms)
