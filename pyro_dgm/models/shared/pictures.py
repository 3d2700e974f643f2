"""Shapes of the pictures that flat rows hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...checks import check_columns, check_counts, shown
from ...nets.bodies import picture_sizes

Sides = tuple[int, int]
"""Height and width."""


def picture_of(visible: int, shape: Sequence[int] | None) -> tuple[int, int, int]:
    """Channels, height and width of a picture of so many pixels: by default a square of one channel.

    Raises:
        ValueError: no number of pixels, or a shape that does not multiply to them.
    """
    side = math.isqrt(check_columns(visible))
    picture = (1, side, side) if shape is None else picture_sizes(shape, (1,))[0]
    if math.prod(picture) != visible:
        raise ValueError(
            f"shape got {shape!r} for {visible} pixels; expected height and width (or channels, height and width) that "
            "multiply to them"
        )
    return picture


def resized_picture(shape: Sequence[int], channels: int) -> tuple[int, int, int]:
    """Channels, height and width of a picture of another size for the same filters.

    Raises:
        ValueError: no picture's shape, or other channels than the filters have.
    """
    picture = picture_sizes(shape, (1,))[0]
    if picture[0] != channels:
        raise ValueError(f"shape got {shape!r}; expected {channels} channels, as the filters have")
    return picture


def filter_stack(
    filters: Sequence[int],
    sizes: Sequence[int | Sequence[int]],
    pools: Sequence[int | Sequence[int]],
    fewest: int = 1,
) -> tuple[tuple[int, ...], tuple[Sides, ...], tuple[Sides, ...]]:
    """The filters of every hidden layer, and height and width of them and of their regions, checked.

    Raises:
        ValueError: a number below one, fewer layers than ``fewest``, or other numbers of sizes or regions than of layers.

    Example:
        >>> filter_stack((24, 40), (5, (1, 2)), (2, 1))
        ((24, 40), ((5, 5), (1, 2)), ((2, 2), (1, 1)))
    """
    counts = check_counts("filters", filters, "the filters of every layer", "(24, 40)", fewest=fewest)
    sides = _sides("sizes", sizes, "the sides of every layer's filters", "(5, 5) or ((5, 3), 5)", fewest)
    regions = _sides("pools", pools, "the sides of every layer's regions", "(2, 1) or ((2, 1), 1)", fewest)
    if not len(counts) == len(sides) == len(regions):
        raise ValueError(
            f"got {len(counts)} filters, {len(sides)} sizes and {len(regions)} pools; expected one of each per hidden layer"
        )
    return counts, sides, regions


def _sides(name: str, values: Any, what: str, example: str, fewest: int) -> tuple[Sides, ...]:
    """Height and width for every layer, from both or from one number for both."""
    pairs = (
        [tuple(v) if isinstance(v, list | tuple) else (v, v) for v in values]
        if isinstance(values, list | tuple)
        else []
    )
    flat = check_counts(name, [side for pair in pairs for side in pair] or values, what, example, fewest=fewest)
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"{name} got {shown(values)}; expected {what}, one number or two per layer, as in {name}={example}"
        )
    return tuple(zip(flat[::2], flat[1::2], strict=True))
