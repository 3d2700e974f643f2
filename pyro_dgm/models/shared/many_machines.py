"""Log Z of many machines, one for every context, in parts that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...annealing import log_partition
from ...annealing.partition import asks_to_anneal
from ...energy import BoltzmannDistribution, LogPartition, log_states

LISTED = 26 * math.log(2.0)
"""The largest log-number of states, over all machines, that are listed by default."""

ENTRIES = 1 << 24
"""Numbers in the states of the chains that anneal, or of the machines that are listed, at once."""

_PARTS = ("value", "stderr", "lower", "upper", "stderr_lower", "stderr_upper")


def at_once(dist: BoltzmannDistribution, chains: int) -> int:
    """Contexts whose machines go together through so many chains each."""
    units = sum(unit.shape.numel() for unit in dist.machine.graph.layers.values())
    return max(ENTRIES // (chains * units), 1)


def log_partitions(
    machine: Callable[[Tensor], BoltzmannDistribution], contexts: Tensor, method: str | None = None, **options: Any
) -> LogPartition:
    """Log Z of every context's machine in nats, each exact or by annealing from the machine's own biases: ``contexts``.

    Args:
        machine: from contexts, ``n x ...``, to a distribution of ``batch_shape`` (n,).
        contexts: all of them.
        method: ``"exact"``, ``"ais"`` or ``"bridge"``. By default exact where the states of all machines can be listed and no
            option asks for annealing, else ``"ais"``.
        options: those of ``dgm.log_partition``.

    Returns:
        One figure per context. Its method is the longest of the parts', which has what any of them says of itself.
    """
    with torch.no_grad():
        one = machine(contexts[:1])
        if method is None:
            needed = log_states(one.machine, {}) + math.log(len(contexts))
            method = "ais" if asks_to_anneal(options) or needed > LISTED else "exact"
            options = options if method == "ais" else {}
        parts = contexts.split(at_once(one, 1 if method == "exact" else options.get("chains") or 100))
        found = [log_partition(machine(part), method, **options) for part in parts]
    joined = {
        name: torch.cat([getattr(f, name).expand(len(part)) for f, part in zip(found, parts, strict=True)])
        for name in _PARTS
    }
    return LogPartition(**joined, method=max((f.method for f in found), key=len))


def summed(log_z: LogPartition, groups: Tensor, count: int) -> LogPartition:
    """Log Z summed over groups of independent machines; standard errors add in squares.

    Args:
        log_z: one log Z per machine.
        groups: the number of every machine's group, from 0.
        count: the number of groups.
    """

    def total(part: Tensor) -> Tensor:
        return part.new_zeros(count).index_add_(0, groups, part)

    errors = {name: total(getattr(log_z, name).square()).sqrt() for name in _PARTS if "stderr" in name}
    values = {name: total(getattr(log_z, name)) for name in _PARTS if "stderr" not in name}
    return LogPartition(**values, **errors, method=log_z.method)
