"""Shapes of the pictures that flat rows hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...checks import check_columns
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
