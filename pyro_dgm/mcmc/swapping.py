"""Swaps of the replicas at neighbouring temperatures, and temperatures that swap equally often."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..energy import Colour, State
from ..native import swap_replicas


class Swaps(NamedTuple):
    """The result of a round of swaps."""

    source: Tensor
    """For every place, the place that its new replica came from; chains, temperatures and batch are one dimension."""

    rate: Tensor
    """The mean probability of a swap of every pair."""

    from_base: Tensor
    """Booleans, True for replicas that were at the lowest inverse temperature more recently than at the highest."""

    trips: Tensor
    """The number of trips of replicas from the lowest to the highest one so far, by chain."""

    order: Tensor
    """For every place, the number of the temperature that its new replica was at, ``chains x temperatures x batch_shape``."""


def swaps(betas: Tensor, gap: Tensor, from_base: Tensor, trips: Tensor) -> Swaps:
    r"""One round of swaps of even and then of odd neighbours.

    Args:
        betas: inverse temperatures.
        gap: D of every replica, ``chains x temperatures x batch_shape``.
        from_base: which replicas were at the lowest inverse temperature more recently than at the highest, shaped as
            ``gap``.
        trips: the number of trips from the lowest to the highest one so far, ``chains x batch_shape``.
    """
    compiled = swap_replicas(betas, gap, from_base, trips)
    return _swaps(betas, gap, from_base, trips) if compiled is None else Swaps(*compiled)


def _swaps(betas: Tensor, gap: Tensor, from_base: Tensor, trips: Tensor) -> Swaps:
    """``swaps`` by torch's operations, on any device."""
    thresholds = -torch.empty_like(gap[:, 1:]).exponential_()
    places, even, odd = _places(gap.shape[1], gap.dim() - 1, gap.device)
    steps = betas.diff().view(even.shape)
    first = steps * (gap[:, :-1] - gap[:, 1:])
    order = places + _crossing((thresholds < first) & even)
    gap = gap.gather(1, order)
    second = steps * (gap[:, :-1] - gap[:, 1:])
    then = places + _crossing((thresholds < second) & odd)
    rate = torch.where(even, first, second).clamp_max_(0).exp_()
    order = order.gather(1, then)
    source = torch.arange(order.numel(), device=order.device).view(order.shape).gather(1, order).view(-1)
    climbing = from_base.gather(1, order)
    trips = trips + climbing[:, -1]
    climbing[:, -1], climbing[:, 0] = False, True
    return Swaps(source, rate.mean([d for d in range(rate.dim()) if d != 1]), climbing, trips, order)


@functools.cache
def _places(number: int, dims: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of all temperatures, and which pairs of neighbours begin at an even and which at an odd one."""
    places = torch.arange(number, device=device).view(-1, *(1 for _ in range(dims - 1)))
    return places, places[:-1] % 2 == 0, places[:-1] % 2 == 1


def _crossing(accepted: Tensor) -> Tensor:
    """The offset of every place to that of its new replica, given which pairs swap: -1, 0 or 1."""
    edges = (0, 0) * (accepted.dim() - 2) + (1, 1)
    return torch.nn.functional.pad(accepted.to(torch.int64), edges).diff(dim=1)


def equalised(betas: Tensor, rate: Tensor) -> Tensor:
    """Inverse temperatures between the same ends that cut the sum of rejection rates into equal parts (Syed et al. 2022)."""
    # A thousandth of even spacing keeps pairs apart whose swaps are never rejected.
    length = torch.cat([betas.new_zeros(1), ((1 - rate) + 1e-3 * betas.diff()).cumsum(0)])
    wanted = torch.linspace(0, 1, len(betas), dtype=betas.dtype, device=betas.device) * length[-1]
    right = torch.searchsorted(length, wanted[1:-1]).clamp(1, len(betas) - 1)
    share = (wanted[1:-1] - length[right - 1]) / (length[right] - length[right - 1])
    return torch.cat([betas[:1], torch.lerp(betas[right - 1], betas[right], share), betas[-1:]])


def exchange(source: Tensor, colours: Sequence[Colour], state: State) -> list[str]:
    """Let the replicas trade places; return the layers whose states moved.

    Layers that lie wholly in the first or the second colour are drawn before anything reads them, and do not move.
    """
    drawn = {block.layer for colour in colours[:2] for block in colour if block.atoms is None}
    moved = [layer for layer in state if layer not in drawn]
    for layer in moved:
        rows = state[layer].reshape(len(source), -1)
        state[layer] = rows.index_select(0, source).view(state[layer].shape)
    return moved
