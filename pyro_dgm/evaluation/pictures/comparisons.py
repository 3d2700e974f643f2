"""Pictures of rows beside others: samples and data, and rows whose unknown entries were filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .canvas import File, Shape, as_pictures, check_some, save, show_image, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNKNOWN = np.array([0.55, 0.75, 1.0])
"""The colour that marks unknown entries."""

SHADE = 0.45
"""The share of that colour in entries that were filled in."""


def samples_and_data(
    samples: Tensor, data: Tensor, shape: Shape, name: str = "model", columns: int = 10, path: File = None
) -> Figure:
    """Samples on the left and as many rows of data on the right, on one scale.

    Args:
        samples: pictures in [0, 1], ``n x D``.
        data: pictures to compare them with, ``m x D``; the first ``n`` are shown.
        shape: the shape of one picture, as for ``sample_grid``.
        name: what the samples are of.
        columns: pictures per row on either side.
        path: a PNG file to write as well.

    Raises:
        ValueError: as ``sample_grid``.

    Example:
        >>> samples_and_data(torch.eye(4), torch.eye(4), (2, 2), columns=2).axes[0].images[0].get_array().shape
        (7, 16)
    """
    columns = min(check_some("columns", columns), len(samples))
    left, right = (
        tile(as_pictures(n, x[: len(samples)], shape), columns) for n, x in (("samples", samples), ("data", data))
    )
    rows = max(len(left), len(right))
    left, right = (np.pad(side, _below(side, rows - len(side)), constant_values=1.0) for side in (left, right))
    space = np.ones((rows, max(2, left.shape[1] // 30), *left.shape[2:]))
    return save(show_image(np.concatenate([left, space, right], 1), f"left: samples of {name}; right: test data"), path)


def _below(image: np.ndarray, more: int) -> list[tuple[int, int]]:
    """The padding of an image by rows of pixels below it."""
    return [(0, more), (0, 0), (0, 0)][: image.ndim]


def imputations(
    truth: Tensor | None, known: Tensor, filled: Tensor, shape: Shape, columns: int = 10, path: File = None
) -> Figure:
    """Rows before and after their unknown entries were filled in; unknown entries are blue, and bluish once filled in.

    Args:
        truth: the whole rows in [0, 1], ``n x D``, where they are known to the writer; they then stand on top.
        known: booleans, ``n x D``: True for the entries that were given.
        filled: the rows with their unknown entries filled in, ``n x D``.
        shape: the shape of one picture, as for ``sample_grid``.
        columns: pictures per row.
        path: a PNG file to write as well.

    Raises:
        ValueError: as ``sample_grid``, or numbers of rows that differ.

    Example:
        >>> rows = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
        >>> known = torch.tensor([[True, True, False, False]])
        >>> imputations(None, known, rows, (2, 2)).axes[0].images[0].get_array()[1:3, 1:3].tolist()
        [[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [[0.55, 0.75, 1.0], [0.55, 0.75, 1.0]]]
    """
    pictures, mask = (
        _coloured("filled", filled, shape),
        _coloured("known", torch.as_tensor(known).double(), shape) > 0.5,
    )
    whole = None if truth is None else _coloured("truth", truth, shape)
    for name, count in (("known", len(mask)), ("truth", len(pictures) if whole is None else len(whole))):
        if count != len(pictures):
            raise ValueError(f"{name} got {count} rows for {len(pictures)} rows that were filled in; give as many")
    given = np.where(mask, pictures, UNKNOWN)
    shaded = np.where(mask, pictures, (1 - SHADE) * pictures + SHADE * UNKNOWN)
    layers = [given, shaded] if whole is None else [whole, given, shaded]
    columns, bands = min(check_some("columns", columns), len(pictures)), []
    for start in range(0, len(pictures), columns):
        tiles = [tile(layer[start : start + columns], columns) for layer in layers]
        bands += [tiles[0], *(below[1:] for below in tiles[1:]), np.ones_like(tiles[0][:2])]
    above = ["test rows"] * (len(layers) - 2)
    title = f"from above: {', '.join([*above, 'given (blue: unknown)', 'filled in'])}"
    return save(show_image(np.concatenate(bands[:-1]), title), path)


def _coloured(name: str, x: Any, shape: Shape) -> np.ndarray:
    """Pictures with three channels, which come last."""
    pictures = as_pictures(name, x, shape)
    return pictures if pictures.ndim == 4 else np.repeat(pictures[..., None], 3, -1)
