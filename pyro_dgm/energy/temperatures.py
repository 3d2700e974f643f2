"""Ladders of inverse temperatures, for annealing and for tempered chains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Tensor

from ..checks import check_memory, shown

LADDER = 10
"""The numbers that a ladder and sums along it keep for every temperature."""

Spacing = Callable[[int], Tensor]
"""From a number of inverse temperatures to their values, from 0 to 1 in double precision."""


def quartered(number: int) -> Tensor:
    """A quarter of the values below 0.5, a quarter up to 0.9, the others above (after Salakhutdinov and Murray 2008)."""
    if number < 8:
        return evenly(number)
    quarter = number // 4
    return torch.cat(
        [
            torch.linspace(0, 0.5, quarter + 1, dtype=torch.float64)[:-1],
            torch.linspace(0.5, 0.9, quarter + 1, dtype=torch.float64)[:-1],
            torch.linspace(0.9, 1.0, number - 2 * quarter, dtype=torch.float64),
        ]
    )


def evenly(number: int) -> Tensor:
    """Values at equal steps."""
    return torch.linspace(0, 1, number, dtype=torch.float64)


def sigmoid(number: int) -> Tensor:
    """Values with short steps at both ends (after Wu et al. 2017), for paths between two densities that are both known."""
    levels = torch.sigmoid(torch.linspace(-4, 4, number, dtype=torch.float64))
    return (levels - levels[0]) / (levels[-1] - levels[0])


def temperatures(
    ladder: int | Sequence[float] | Tensor, spacing: Spacing = quartered, whole: bool = True, numbers: int = 0
) -> Tensor:
    """Inverse temperatures in increasing order, in double precision; the last of them is 1.

    Args:
        ladder: the number of inverse temperatures, or their values.
        spacing: from their number to their values, if only the number is given.
        whole: the ladder must go from exactly 0 up to 1, as a path to anneal along; else, as for tempered chains, it may start
            above 0 and be given from 1 downwards.
        numbers: how many numbers a user of the ladder keeps for every temperature.

    Raises:
        ValueError: fewer than two, more than memory holds, out of order, or other ends.

    Example:
        >>> temperatures(3), temperatures([1, 0.2], whole=False)
        (tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64), tensor([0.2000, 1.0000], dtype=torch.float64))
    """
    if isinstance(ladder, Integral) and not isinstance(ladder, bool):
        if ladder < 2:
            raise ValueError(f"temperatures got {ladder}; expected at least 2 (the two ends of the path)")
        check_memory({"temperatures": int(ladder)}, LADDER + numbers, "a ladder", "{} numbers each")
        return spacing(int(ladder))
    try:
        betas = torch.as_tensor(ladder, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        betas = torch.empty(())
    if betas.dim() != 1 or len(betas) < 2:
        raise ValueError(
            f"temperatures got {shown(ladder)}; expected their number, or at least 2 inverse temperatures as in [0, 0.5, 1]"
        )
    if not whole and bool((betas.diff() < 0).all()):
        betas = betas.flip(0)
    if whole:
        expected = "inverse temperatures that increase from exactly 0 (the base) to exactly 1 (the model)"
    else:
        expected = "inverse temperatures in strict order between 0 and 1, with 1 (the machine itself) at one end"
    falls = (~(betas.diff() > 0)).nonzero()
    if len(falls):
        place = int(falls[0])
        pair = " and then ".join(f"{beta:g}" for beta in betas[place : place + 2].tolist())
        raise ValueError(f"temperatures got {pair} at places {place} and {place + 1}; expected {expected}")
    if betas[0] < 0 or (whole and betas[0] != 0) or betas[-1] != 1:
        raise ValueError(
            f"temperatures got a sequence from {float(betas[0]):g} to {float(betas[-1]):g}; expected {expected}"
        )
    return betas
