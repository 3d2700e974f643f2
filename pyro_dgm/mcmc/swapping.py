"""Swaps of the replicas at neighbouring temperatures, and temperatures that swap equally often."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..energy import Colour, State
from ..energy.path import Fields


def swaps(betas: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    r"""One round of swaps of even and then of odd neighbours.

    Args:
        betas: inverse temperatures.
        gap: D of every replica, ``chains x temperatures x batch_shape``.

    Returns:
        for every place the place that its new replica was in, shaped as ``gap``; and every pair's mean probability of a swap.
    """
    thresholds = -torch.empty_like(gap[:, 1:]).exponential_()
    if gap.device.type == "cpu" and gap.dtype == betas.dtype:
        order, rate = torch.empty(gap.shape, dtype=torch.int64), torch.empty(len(betas) - 1, dtype=gap.dtype)
        arrays = [t.reshape(*gap.shape[:1], -1, gap.shape[2:].numel()).numpy() for t in (gap, thresholds, order)]
        _loop()(betas.numpy(), *arrays, rate.numpy())
        return order, rate
    return _swaps(betas, gap, thresholds)


def _swaps(betas: Tensor, gap: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """The same by torch's operations, on any device."""
    places, even, odd = _places(gap.shape[1], gap.dim() - 1, gap.device)
    steps = betas.diff().view(even.shape)
    first = steps * (gap[:, :-1] - gap[:, 1:])
    order = places + _crossing((thresholds < first) & even)
    gap = gap.gather(1, order)
    second = steps * (gap[:, :-1] - gap[:, 1:])
    then = places + _crossing((thresholds < second) & odd)
    rate = torch.where(even, first, second).clamp_max_(0).exp_()
    return order.gather(1, then), rate.mean([d for d in range(rate.dim()) if d != 1])


@functools.cache
def _loop() -> Callable[..., None]:
    from .swap_loop import swap

    return swap


@functools.cache
def _places(number: int, dims: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of all temperatures, and which pairs of neighbours begin at an even and at an odd one."""
    places = torch.arange(number, device=device).view(-1, *(1 for _ in range(dims - 1)))
    return places, places[:-1] % 2 == 0, places[:-1] % 2 == 1


def _crossing(accepted: Tensor) -> Tensor:
    """How far each place lies from that of its new replica, given which pairs swap: -1, 0 or 1."""
    edges = (0, 0) * (accepted.dim() - 2) + (1, 1)
    return torch.nn.functional.pad(accepted.to(torch.int64), edges).diff(dim=1)


def equalised(betas: Tensor, rate: Tensor) -> Tensor:
    """Inverse temperatures between the same ends that cut the sum of rejection rates into equal parts (Syed et al. 2022)."""
    # A thousandth of even spacing keeps pairs apart that are never rejected.
    length = torch.cat([betas.new_zeros(1), ((1 - rate) + 1e-3 * betas.diff()).cumsum(0)])
    wanted = torch.linspace(0, 1, len(betas), dtype=betas.dtype, device=betas.device) * length[-1]
    right = torch.searchsorted(length, wanted[1:-1]).clamp(1, len(betas) - 1)
    share = (wanted[1:-1] - length[right - 1]) / (length[right] - length[right - 1])
    return torch.cat([betas[:1], torch.lerp(betas[right - 1], betas[right], share), betas[-1:]])


def exchange(order: Tensor, colours: Sequence[Colour], state: State, raw: Fields) -> Fields:
    """Let the replicas trade places; returns the fields of the first colour at their new places.

    Layers that lie in the first or the second colour as a whole are drawn before anything reads them, and stay.
    """
    rows = (order * order[0, 0].numel() + _offsets(order.shape, order.device)).view(-1)

    def moved(x: Tensor) -> Tensor:
        return x.reshape(len(rows), -1).index_select(0, rows).view(x.shape)

    drawn = {block.layer for colour in colours[:2] for block in colour if block.atoms is None}
    for layer in state.keys() - drawn:
        state[layer] = moved(state[layer])
    return [tuple(moved(field) for field in fields) for fields in raw]


@functools.cache
def _offsets(shape: torch.Size, device: torch.device) -> Tensor:
    """What turns places, in units of the batch's size, into numbers of rows: ``chains x 1 x batch_shape``."""
    return torch.arange(shape.numel(), device=device).view(shape)[:, :1]
