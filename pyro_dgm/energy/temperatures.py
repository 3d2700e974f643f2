"""Annealed importance sampling between a product distribution and a Boltzmann machine, with one colour summed out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass


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
