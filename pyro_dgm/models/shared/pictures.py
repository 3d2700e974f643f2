"""Shapes of the pictures that flat rows hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...checks import check_columns, check_counts
from ...nets.bodies import picture_sizes


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
    filters: Sequence[int], sizes: Sequence[int], pools: Sequence[int], fewest: int = 1
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The filters, their sides and the sides of the regions of every hidden layer, checked.

    Raises:
        ValueError: a number below one, fewer layers than ``fewest``, or other numbers of sizes or regions than of layers.
    """
    counts = check_counts("filters", filters, "the filters of every layer", "(24, 40)", fewest=fewest)
    sides = check_counts("sizes", sizes, "the sides of every layer's filters", "(5, 5)", fewest=fewest)
    regions = check_counts("pools", pools, "the sides of every layer's regions", "(2, 1)", fewest=fewest)
    if not len(counts) == len(sides) == len(regions):
        raise ValueError(
            f"got {len(counts)} filters, {len(sides)} sizes and {len(regions)} pools; expected one of each per hidden layer"
        )
    return counts, sides, regions
