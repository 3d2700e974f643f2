"""Pictures of canvases that fill step by step: as one image, and as an animation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...extras import need
from .canvas import File, Shape, as_pictures, save, show_image, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drawing_sequence(
    canvases: Tensor, shape: Shape, path: File = None, centres: Tensor | None = None, sizes: Tensor | None = None
) -> Figure:
    """Canvases as they fill, one row per picture and one column per step; the windows written to are red.

    Args:
        canvases: means in [0, 1] after every step, ``steps x n x D``, as in ``DRAW.drawing(n).means``.
        shape: the shape of one picture, as for `sample_grid`.
        path: a PNG file to write as well.
        centres: centres of the windows, ``steps x n x 2`` (row, column, in pixels from zero), or None.
        sizes: sides of the windows in pixels, ``steps x n``, or None.

    Raises:
        ValueError: as `sample_grid`, or if canvases do not have three dimensions or the windows do not fit them.
    """
    canvases = _checked(canvases)
    steps, count = canvases.shape[:2]
    pictures = as_pictures("canvases", canvases.transpose(0, 1).flatten(0, 1), shape)
    figure = show_image(tile(pictures, steps), f"{steps} steps, from the left")
    if centres is not None and sizes is not None:
        _windows(figure.axes[0], torch.as_tensor(centres), torch.as_tensor(sizes), (steps, count), pictures.shape[1:3])
    return save(figure, path)


def _windows(axes: Any, centres: Tensor, sizes: Tensor, grid: tuple[int, int], shape: Sequence[int]) -> None:
    """Draw the windows as red squares, clipped to their pictures."""
    from matplotlib.patches import Rectangle

    if tuple(centres.shape) != (*grid, 2) or tuple(sizes.shape) != grid:
        raise ValueError(
            f"centres and sizes got shapes {tuple(centres.shape)} and {tuple(sizes.shape)}; expected {(*grid, 2)} and {grid}"
        )
    height, width = shape
    for step, n in np.ndindex(*grid):
        top, left = 1 + n * (height + 1), 1 + step * (width + 1)
        (row, column), side = centres[step, n].tolist(), float(sizes[step, n])
        corner = (left + column - side / 2, top + row - side / 2)
        box = Rectangle(corner, side, side, fill=False, edgecolor="C3", linewidth=1)
        axes.add_patch(box)
        box.set_clip_path(Rectangle((left - 0.5, top - 0.5), width, height, transform=axes.transData))


def drawing_animation(canvases: Tensor, shape: Shape, path: str, columns: int = 10, milliseconds: int = 200) -> None:
    """Write an animated GIF of canvases as they fill, all pictures side by side.

    Args:
        canvases: means in [0, 1] after every step, ``steps x n x D``.
        shape: the shape of one picture, as for `sample_grid`.
        path: the GIF file; one that exists is replaced.
        columns: pictures per row.
        milliseconds: the time for which a step is shown; the last one stays five times as long.

    Raises:
        ValueError: as `drawing_sequence`, fewer than two steps, or a path that does not end in .gif.
    """
    need("an animation", "pictures")
    from PIL import Image

    canvases = _checked(canvases)
    if len(canvases) < 2:
        raise ValueError("canvases got a single step; expected at least two, of a DRAW with steps=2 or more")
    if not str(path).endswith(".gif"):
        raise ValueError(f"path got {str(path)!r}; expected a name that ends in .gif")
    frames = []
    for step in canvases:
        mosaic = tile(as_pictures("canvases", step, shape), min(columns, canvases.shape[1]))
        frame = Image.fromarray((255 * np.asarray(mosaic)).round().astype(np.uint8))
        frames.append(frame.resize((3 * frame.width, 3 * frame.height), Image.Resampling.NEAREST))
    durations = [milliseconds] * (len(frames) - 1) + [5 * milliseconds]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _checked(canvases: Any) -> Tensor:
    """The canvases, if they are a tensor of three dimensions that is not empty."""
    expected = "expected the canvas after every step, steps x pictures x D, as in DRAW.drawing(n).means"
    if not isinstance(canvases, Tensor):
        raise ValueError(f"canvases got {type(canvases).__name__}; {expected}")
    if canvases.dim() != 3 or not canvases.numel():
        raise ValueError(f"canvases got shape {tuple(canvases.shape)}; {expected}")
    return canvases
