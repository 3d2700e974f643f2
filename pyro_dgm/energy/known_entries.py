"""Exact sums over what rows leave unknown: missing entries of a layer, and all other layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .enumeration import ENTRIES, _log_count, _states, batch_shape, log_states, log_sum, summable
from .graph import Colour
from .integration import NotEnumerable
from .machine import Machine
from .units.unit import ScalarUnit

LARGEST = 26 * math.log(2.0)
"""The largest log-number of states that are listed for all rows together."""

_CHUNK = 4096


@torch.no_grad()
def known_log_sum(machine: Machine, layer: str, value: Tensor) -> Tensor:
    r"""$\log \sum e^{-E}$ over the missing entries of a layer and over all other layers, in nats: one figure per row.

    Either the states of the other layers are listed, under each of which the layer's units are independent and every missing
    one is summed out by itself; or a row's missing entries are listed, with the other layers summed out.

    Args:
        machine: the bound graph, without batch dimensions.
        layer: the layer that the rows are states of.
        value: rows, ``rows x layer shape``, NaN where an entry is missing.

    Raises:
        NotEnumerable: neither list is short enough.
    """
    by_others, by_entries = _log_listed(machine, layer, value)
    fewest = min(by_others, by_entries)
    if math.isinf(fewest):
        raise NotEnumerable(
            f"the sum over the missing entries of {layer!r} has no list of states: other units are real-valued too, or units of "
            "the layer are coupled to one another"
        )
    if fewest > LARGEST:
        raise NotEnumerable(
            f"the sum over the missing entries of {len(value)} rows has 2^{fewest / math.log(2):.0f} states to list; at most "
            f"2^{LARGEST / math.log(2):.0f} are listed"
        )
    if by_others <= by_entries:
        return _listing_others(machine, layer, value)
    return _listing_entries(machine, layer, value)


def _log_listed(machine: Machine, layer: str, value: Tensor) -> tuple[float, float]:
    """The log-numbers of states to list for all rows, of the other layers, and of the missing entries."""
    unit = machine.graph.layers[layer]
    if not isinstance(unit, ScalarUnit) or batch_shape(machine):
        return math.inf, math.inf
    own = _own_colour(machine, layer)
    others = sum(_log_count(machine, colour) for colour in machine.colours if colour is not own) if own else math.inf
    entries = math.inf
    if unit.states_per_atom is not None and summable(machine, {layer: value}):
        missing = value.isnan().flatten(1).sum(1).double() * math.log(unit.states_per_atom)
        entries = float(missing.logsumexp(0)) + log_states(machine, {layer: value})
    return others + math.log(len(value)), entries


def _own_colour(machine: Machine, layer: str) -> Colour | None:
    """The colour that holds the layer as a whole; None where its units are coupled to one another."""
    whole = (c for c in machine.colours if any(block.layer == layer and block.atoms is None for block in c))
    return next(whole, None)


def _listing_others(machine: Machine, layer: str, value: Tensor) -> Tensor:
    """The sums by the states of the other layers: with them given, an entry adds its field times its statistics, or A."""
    own = _own_colour(machine, layer) or ()
    unit, dims = machine.graph.layers[layer], machine.graph.layers[layer].event_dim
    missing = value.isnan()
    seen = [torch.where(missing, 0.0, t).flatten(1) for t in unit.T(value)]
    holes = missing.flatten(1).to(value)
    listed: list[Colour] = [own, *(colour for colour in machine.colours if colour is not own)]
    at_once = max(min(_CHUNK, ENTRIES // max(len(value), holes.shape[1])), 1)
    total = value.new_full((len(value),), -math.inf)
    for states in _states(machine, listed, {}, at_once):
        statistics, whole = machine.without(own, machine.statistics(states))
        rest, rows = machine.value(statistics, whole), value.new_zeros(())
        for block in own:
            eta = machine.fields(block, statistics)
            if block.layer != layer:
                rest = rest + machine.log_partition(block, eta)
                continue
            flat = [e.flatten(-dims) for e in eta]
            known = sum((e @ t.mT for e, t in zip(flat, seen, strict=True)), start=value.new_zeros(()))
            rows = known + unit.A(*eta).flatten(-dims) @ holes.mT
        total = torch.logaddexp(total, (rest.unsqueeze(-1) + rows).expand(-1, len(value)).logsumexp(0))
    return total


def _listing_entries(machine: Machine, layer: str, value: Tensor) -> Tensor:
    """The sums by the states of every row's missing entries."""
    unit = machine.graph.layers[layer]
    atom = unit.atom_states(value)
    result = value.new_empty(len(value))
    complete = ~value.isnan().flatten(1).any(1)
    if complete.any():
        result[complete] = torch.cat([log_sum(machine, {layer: rows}) for rows in value[complete].split(_CHUNK)])
    for row in (~complete).nonzero().flatten().tolist():
        holes = value[row].isnan().flatten().nonzero().flatten()
        place = len(atom) ** torch.arange(len(holes), device=value.device)
        parts = []
        for numbers in torch.arange(len(atom) ** len(holes), device=value.device).split(_CHUNK):
            states = value[row].flatten().repeat(len(numbers), 1)
            states[:, holes] = atom[(numbers[:, None] // place) % len(atom)]
            parts.append(log_sum(machine, {layer: states.view(-1, *unit.shape)}).logsumexp(0))
        result[row] = torch.stack(parts).logsumexp(0)
    return result
