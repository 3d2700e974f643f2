"""A round of swaps between replicas at neighbouring temperatures, by a compiled loop."""

from __future__ import annotations

import torch
from torch import Tensor

from .draws import seeds
from .guard import PLAIN, check_array, runs_at_once


def swap_replicas(
    betas: Tensor, gap: Tensor, from_base: Tensor, trips: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
    """One round of swaps of even and then of odd neighbours, and the trips it completes; None where no loop takes the tensors.

    Args:
        betas: inverse temperatures.
        gap: D of every replica, ``chains x temperatures x batch_shape``.
        from_base: which replicas were at the lowest inverse temperature last, shaped as ``gap``.
        trips: how many came from there to the highest one so far, ``chains x batch_shape``.

    Returns:
        the place that every replica came from, flat; every pair's mean probability of a swap; ``from_base`` and ``trips``
        after the round; and the temperature that every replica came from, shaped as ``gap``.
    """
    if not runs_at_once() or not all(type(t) in PLAIN and t.is_cpu for t in (betas, gap, from_base, trips)):
        return None
    from . import swap_rounds

    check_array("betas", betas, betas.dtype, (gap.shape[1],))
    check_array("gap", gap, gap.dtype, gap.shape)
    check_array("from_base", from_base, torch.bool, gap.shape)
    check_array("trips", trips, torch.int64, (gap.shape[0], *gap.shape[2:]))
    chains, batch = len(gap), gap[0, 0].numel()
    shape = (chains, gap.shape[1], batch)
    arrays = (
        betas.double(),
        gap.double().reshape(shape),
        seeds(),
        from_base.reshape(shape),
        trips.reshape(chains, batch),
    )
    results = swap_rounds.swap(*(t.detach().resolve_neg().contiguous().numpy() for t in arrays))
    source, rate, from_base, trips, order = (torch.from_numpy(x) for x in results)
    chain_trips = trips.view(chains, *gap.shape[2:])
    return source.view(-1), rate, from_base.view(gap.shape), chain_trips, order.view(gap.shape)
