"""The basis of all pictures: checks of rows, mosaics of tiles, images as matplotlib Figures, and saving."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...checks import check_counts
from ...extras import need
from ...files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Shape = Sequence[int]
File = str | os.PathLike[str] | None


def as_array(name: str, x: Any) -> np.ndarray:
    """Two-dimensional data as an array of double precision.

    Raises:
        ValueError: another number of dimensions, no values, or some that are not finite.
    """
    tensor = torch.as_tensor(x).detach().to("cpu", torch.float64)
    if tensor.ndim != 2 or not tensor.numel():
        raise ValueError(f"{name} got shape {tuple(tensor.shape)}; expected two dimensions, not empty: try flatten(1)")
    if wrong := int((~tensor.isfinite()).sum()):
        raise ValueError(f"{name} got {wrong} values that are NaN or infinite; expected finite ones: drop those rows")
    return tensor.numpy()


def fold(name: str, rows: np.ndarray, shape: Shape) -> np.ndarray:
    """Rows as pictures, ``n x height x width`` or ``n x height x width x 3``; channels may come first or last.

    Raises:
        ValueError: the shape is no picture's, or does not fit the rows.
    """
    shape = check_counts("shape", shape, "the sides of a picture", "(28, 28)")
    last = len(shape) == 3 and shape[0] not in (1, 3) and shape[2] in (1, 3)
    if len(shape) not in (2, 3) or not (last or shape[:-2] in ((), (1,), (3,))):
        raise ValueError(
            f"shape got {shape}; expected (height, width), or three sides of which the first or the last, 1 or 3, are channels"
        )
    if rows.shape[1] != (size := math.prod(shape)):
        raise ValueError(f"{name} got {rows.shape[1]} values per picture; shape {shape} has {size}: make them agree")
    if last:
        return rows.reshape(-1, *shape) if shape[2] == 3 else rows.reshape(-1, *shape[:2])
    return np.moveaxis(rows.reshape(-1, *shape), 1, -1) if shape[:-2] == (3,) else rows.reshape(-1, *shape[-2:])


def as_pictures(name: str, x: Any, shape: Shape) -> np.ndarray:
    """Data in [0, 1] as pictures, in the form of ``fold``.

    Raises:
        ValueError: as ``as_array`` and ``fold``, or values outside [0, 1] by more than rounding.
    """
    rows = as_array(name, x)
    if rows.min() < -1e-5 or rows.max() > 1 + 1e-5:
        raise ValueError(f"{name} got values from {rows.min():.3g} to {rows.max():.3g}; rescale or clip them to [0, 1]")
    return fold(name, rows.clip(0, 1), shape)


def check_some(name: str, value: int) -> int:
    """The value, if it is at least 1."""
    if value < 1:
        raise ValueError(f"{name} got {value}; expected an integer of at least 1, such as 10")
    return value


def tile(pictures: np.ndarray, columns: int, frame: float = 0.75, blank: float = 1.0, gap: int = 1) -> np.ndarray:
    """One image of all pictures in reading order, each framed by ``gap`` pixels; unused places are ``blank``."""
    (down, right), colours = (side + gap for side in pictures.shape[1:3]), pictures.shape[3:]
    image = np.full((math.ceil(len(pictures) / columns) * down + gap, columns * right + gap, *colours), float(blank))
    for index, picture in enumerate(pictures):
        top, left = index // columns * down, index % columns * right
        framed = np.pad(picture, [(gap, gap), (gap, gap), (0, 0)][: picture.ndim], constant_values=frame)
        image[top : top + down + gap, left : left + right + gap] = framed
    return image


def empty(width: float, height: float, layout: Any = "constrained") -> Figure:
    """A white figure without axes, of so many inches.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    need("a picture", "pictures")
    from matplotlib.figure import Figure

    return Figure((width, height), 100, facecolor="white", layout=layout)


def show_image(image: np.ndarray, title: str, left: int = 6, bottom: int = 6, **show: Any) -> Figure:
    """A figure of an image, in which every pixel of the image is a whole number of pixels wide and high."""
    lines, scale = title.splitlines(), min(max(min(720 // image.shape[1], 960 // image.shape[0]), 1), 12)
    height, width = image.shape[0] * scale, image.shape[1] * scale
    room = max(width, *(8 * len(line) for line in lines), 0)
    across, down = left + room + 12, bottom + height + 12 + 17 * len(lines)
    figure = empty(across / 100, down / 100, layout=None)
    axes = figure.add_axes(((left + (room - width) // 2) / across, bottom / down, width / across, height / down))
    axes.imshow(image, interpolation="nearest", aspect="auto", **{"cmap": "gray", "vmin": 0, "vmax": 1, **show})
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    return figure


def save(figure: Figure, path: File) -> Figure:
    """Write a figure as PNG if a path is given, replacing the file in one step; returns the figure.

    Raises:
        ValueError: the path does not end in .png, or its folder does not exist.
    """
    if path is None:
        return figure
    target = Path(path)
    if target.suffix.lower() != ".png" or not target.parent.is_dir():
        raise ValueError(f"path got {str(path)!r}; expected a name ending in .png in a folder that exists")
    write_atomically(target, lambda file: figure.savefig(file, format="png", dpi="figure"))
    return figure
