"""Exact sums: one colour is summed analytically, the other units state by state, or by integrals where they are real."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from . import integration
from .graph import Block, Colour
from .integration import NotEnumerable
from .machine import Machine, State

LARGEST = 22 * math.log(2.0)
"""The largest log-number of states that is enumerated (about four million)."""

QUICK = 12 * math.log(2.0)
"""The largest log-number of states that is enumerated for every row of a batch."""

DRAWN = 16
"""The largest binary logarithm of the number of states that are listed to draw from them exactly."""

ENTRIES = 1 << 24
"""Numbers in the largest tensor of a sum over states."""


def free_colours(machine: Machine, fixed: Mapping[str, Tensor]) -> list[Colour]:
    """The colours restricted to layers outside ``fixed``, the one with the most states first."""
    restricted = (tuple(b for b in colour if b.layer not in fixed) for colour in machine.colours)
    free = [colour for colour in restricted if colour]
    if len(free) > 1:  # which colour comes first is no question at every step of a restricted machine
        free.sort(key=lambda colour: _log_count(machine, colour), reverse=True)
    return free


def _log_count(machine: Machine, colour: Colour) -> float:
    """The log-number of states of a colour's units; infinite for real-valued ones."""
    states = ((machine.graph.size((block,)), machine.graph.layers[block.layer].states_per_atom) for block in colour)
    return sum(math.inf if count is None else size * math.log(count) for size, count in states)


def log_states(machine: Machine, fixed: Mapping[str, Tensor]) -> float:
    """The log-number of states to list for a sum over all layers outside ``fixed``; infinite for real-valued ones."""
    return sum(_log_count(machine, colour) for colour in free_colours(machine, fixed)[1:])


def summable(machine: Machine, fixed: Mapping[str, Tensor]) -> bool:
    """Whether ``log_sum`` has few enough states to list, or integrals to take."""
    needed = log_states(machine, fixed)
    if math.isinf(needed):
        layers = (name for name in machine.graph.layers if name not in fixed)
        return integration.log_integrals(machine, layers) <= integration.LARGEST
    return needed <= LARGEST


def quickly_summable(machine: Machine, fixed: Mapping[str, Tensor]) -> bool:
    """Whether ``log_sum`` is a matter of milliseconds for a batch of rows: few states, or integrals as they are taken."""
    return summable(machine, fixed) and not QUICK < log_states(machine, fixed) < math.inf


def log_sum(machine: Machine, fixed: Mapping[str, Tensor], largest: float = LARGEST, chunk: int = 4096) -> Tensor:
    r"""$\log \sum_{free} e^{-E}$ over all layers outside ``fixed``: the batch shape of ``fixed`` and the parameters.

    Where several colours have real-valued units, their joint integral is taken for every state of the others.

    Args:
        machine: the bound graph.
        fixed: the given layers, ``batch_shape x layer shape``.
        largest: the largest log-number of states that is enumerated.
        chunk: the most states that go through the machine at once (fewer do where there are many rows).

    Raises:
        NotEnumerable: there are more states than ``largest``, or no known integral.
    """
    colours = free_colours(machine, fixed)
    if not colours:
        return -machine.energy(fixed)
    if len(colours) == 1:
        return machine.collapsed(colours[0], fixed)
    needed = log_states(machine, fixed)
    if math.isinf(needed):
        return _integrated(machine, fixed)
    if needed > largest:
        raise NotEnumerable(
            f"the sum over {sorted({b.layer for c in colours for b in c})} has 2^{needed / math.log(2):.0f} states left after "
            f"one colour is summed out; at most 2^{largest / math.log(2):.0f} are listed. "
            "Use dgm.log_partition(..., method='ais')"
        )
    width = max(machine.graph.size(colour) for colour in machine.colours) * max(_batch(machine, fixed).numel(), 1)
    total: Tensor | None = None
    for states in _states(machine, colours, fixed, max(min(chunk, ENTRIES // max(width, 1)), 1)):
        chunk_sum = torch.logsumexp(machine.collapsed(colours[0], {**fixed, **states}), 0)
        total = chunk_sum if total is None else torch.logaddexp(total, chunk_sum)
    if total is None:
        raise NotEnumerable("there is no state to sum over")
    return total


def _integrated(machine: Machine, fixed: Mapping[str, Tensor]) -> Tensor:
    """The sum of ``log_sum``, by a Gaussian integral for every state of the free layers' finite parts."""
    layers = [name for name in machine.graph.layers if name not in fixed]
    needed = integration.log_integrals(machine, layers)
    if needed > integration.LARGEST:
        raise NotEnumerable(
            f"the sum over {sorted(layers)} has 2^{needed / math.log(2):.0f} integrals over real-valued units, one for every "
            f"state of their spikes and of the other units; at most 2^{integration.LARGEST / math.log(2):.0f} are taken. "
            "Use dgm.log_partition(..., method='ais')"
        )
    batch = _batch(machine, fixed)
    real = {name: len(machine.graph.layers[name].real_entries) * machine.graph.layers[name].atoms for name in layers}
    at_once = max(integration.ENTRIES // (sum(real.values()) ** 2 * batch.numel()), 1)
    listed: list[Colour] = [(), *((Block(name),) for name in layers)]
    sums = [
        integration.log_integral(machine, {**fixed, **states}, [n for n in layers if real[n]], batch).logsumexp(0)
        for states in _states(machine, listed, fixed, at_once)
    ]
    return torch.stack(sums).logsumexp(0)


def _reference(machine: Machine) -> Tensor:
    """A parameter, for its dtype and device."""
    return next(iter(machine.biases.values()))[0]


def _states(machine: Machine, colours: list[Colour], fixed: Mapping[str, Tensor], chunk: int) -> Iterator[State]:
    """All states of the colours after the first, ``chunk x 1 ... x layer shape``; the first colour and real entries are zero."""
    like = _reference(machine).detach()
    batch = _batch(machine, fixed)
    blocks = [block for colour in colours[1:] for block in colour]
    sizes = [machine.graph.size((block,)) for block in blocks]
    atoms = [machine.graph.layers[b.layer].finite_states(like) for b in blocks]
    per_atom = [len(states) for states in atoms]
    radix = torch.tensor([k for k, n in zip(per_atom, sizes, strict=True) for _ in range(n)], device=like.device)
    place = torch.cat([radix.new_ones(1), radix.cumprod(0)])
    layers = {b.layer for b in blocks} | {b.layer for b in colours[0] if b.atoms is not None}
    for start in range(0, int(place[-1]), chunk):
        numbers = torch.arange(start, min(start + chunk, int(place[-1])), device=like.device)
        digits = (numbers[:, None] // place[:-1]) % radix
        state: State = {}
        for name in layers:
            shape = machine.graph.layers[name].shape
            state[name] = like.new_zeros((len(numbers), *shape))
        for block, listed, chosen in zip(blocks, atoms, digits.split(sizes, dim=1), strict=True):
            unit = machine.graph.layers[block.layer]
            values = listed[chosen]
            if block.atoms is None:
                state[block.layer] = values.view(len(numbers), *unit.shape)
            else:
                state[block.layer].index_copy_(-1 - unit.inner_dim, block.atoms, values)
        yield {n: x.view(len(numbers), *itertools.repeat(1, len(batch)), *x.shape[1:]) for n, x in state.items()}


def _batch(machine: Machine, fixed: Mapping[str, Tensor]) -> torch.Size:
    """The batch shape of the given layers and the parameters."""
    shapes = (x.shape[: x.dim() - machine.graph.layers[name].event_dim] for name, x in fixed.items())
    return torch.broadcast_shapes(*shapes, batch_shape(machine))


def batch_shape(machine: Machine) -> torch.Size:
    """The batch shape of the parameters."""
    shapes = [b.shape[:-1] for entry in machine.biases.values() for b in entry]
    shapes += [w.shape[: w.dim() - len(s)] for w, s in zip(machine.weights, machine.graph.weight_shapes, strict=True)]
    return torch.broadcast_shapes(*shapes) if any(shapes) else torch.Size()


def all_states(machine: Machine) -> State:
    """Every joint state of a small machine with finite units, ``states x layer shape``.

    Raises:
        NotEnumerable: there are real-valued units.
    """
    if any(unit.states_per_atom is None for unit in machine.graph.layers.values()):
        raise NotEnumerable("real-valued units have no list of states")
    colours: list[Colour] = [(), *((Block(layer),) for layer in machine.graph.layers)]
    chunks = list(_states(machine, colours, {}, 1 << 16))
    return {layer: torch.cat([c[layer] for c in chunks]).flatten(0, len(batch_shape(machine))) for layer in chunks[0]}


def layer_states(machine: Machine, layer: str) -> Tensor:
    """Every state of one layer of finite units, ``states x layer shape``."""
    chunks = [chunk[layer] for chunk in _states(machine, [(), (Block(layer),)], {}, 1 << 16)]
    return torch.cat(chunks).view(-1, *machine.graph.layers[layer].shape)


def drawable(machine: Machine) -> bool:
    """Whether ``exact_sample`` has few enough states to list, and no batch shape."""
    return not batch_shape(machine) and log_states(machine, {}) <= DRAWN * math.log(2.0)


def exact_sample(machine: Machine, count: int) -> State:
    """Independent exact draws by enumeration; the parameters must have no batch shape.

    Raises:
        NotEnumerable: there are too many states to list.
    """
    colours = free_colours(machine, {})
    if not drawable(machine):
        raise NotEnumerable("exact draws need a small machine without batch shape; use a Gibbs chain")
    with torch.no_grad():
        if len(colours) > 1:
            chunks = list(_states(machine, colours, {}, 1 << 14))
            logits = torch.cat([machine.collapsed(colours[0], chunk) for chunk in chunks])
            chosen = torch.multinomial(torch.softmax(logits.double(), 0), count, replacement=True)
            state = {name: torch.cat([c[name] for c in chunks])[chosen] for name in chunks[0]}
        else:
            state = {}
        statistics, _ = machine.without(colours[0], machine.statistics(state))
        for block in colours[0]:
            old = state.get(
                block.layer, _reference(machine).new_zeros((count, *machine.graph.layers[block.layer].shape))
            )
            eta = tuple(
                e.expand(count, *e.shape[-machine.graph.layers[block.layer].event_dim :])
                for e in machine.fields(block, statistics)
            )
            state[block.layer] = machine.draw_block(block, eta, old, None)
    return state
