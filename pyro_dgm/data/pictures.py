"""Folders of pictures as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..extras import need

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""The endings of files that are read as pictures; others are left alone."""


def read_pictures(folder: Path) -> dict[str, np.ndarray]:
    """The pictures of a folder in the order of their names, grey levels in [0, 1]: arrays as ``read_npz`` takes them.

    Pictures lie in the folder itself; or in subfolders ``train``, ``valid`` and ``test``, of which some may be missing; in either
    case within further subfolders, one per class in the order of their names. They are grey, ``n x height x width``, unless one
    of them has colours: then ``n x 3 x height x width``.

    Args:
        folder: the folder.

    Raises:
        ValueError: no pictures, pictures of different sizes, or a file that is none.
        MissingExtra: Pillow is not installed.
    """
    need(f"{folder}, a folder of pictures,", "pictures")
    splits = {part: folder / part for part in ("train", "valid", "test") if (folder / part).is_dir()} or {
        "train": folder
    }
    files = {part: _files(place) for part, place in splits.items()}
    classes = sorted(
        {path.parent.name for part, paths in files.items() for path in paths if path.parent != splits[part]}
    )
    every = [path for paths in files.values() for path in paths]
    if not every:
        raise ValueError(f"{folder} has no pictures ({', '.join(SUFFIXES)}), in itself or in subfolders of classes")
    if classes and (bare := [path for part, paths in files.items() for path in paths if path.parent == splits[part]]):
        raise ValueError(
            f"{bare[0]} lies beside folders of classes ({', '.join(classes[:5])}); move it into one of them"
        )
    colours = any(_coloured(path) for path in every)
    arrays: dict[str, np.ndarray] = {}
    for part, paths in files.items():
        arrays[part] = _stacked(paths, colours)
        if classes:
            arrays[f"{part}_labels"] = np.array([classes.index(path.parent.name) for path in paths])
    return arrays


def _files(place: Path) -> list[Path]:
    found = [p for p in (*place.glob("*"), *place.glob("*/*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
    return sorted(found)


def _open(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no picture that can be read ({error})") from None


def _coloured(path: Path) -> bool:
    """Whether a picture's file may hold colours."""
    with _open(path) as picture:
        return picture.mode not in ("1", "L", "LA") and not picture.mode.startswith("I;16")


def _levels(picture: Any, path: Path, colours: bool) -> np.ndarray:
    """A picture in [0, 1], ``height x width`` or ``3 x height x width``; Pillow itself would cut sixteen bits off at eight."""
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"{path} has numbers of mode {picture.mode} without a scale; save it with 8 or 16 bits a pixel"
        )
    if picture.mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.float32) / 65535
        return np.stack([grey] * 3) if colours else grey
    values = np.asarray(picture.convert("RGB" if colours else "L"), dtype=np.float32) / 255
    return np.moveaxis(values, -1, 0) if colours else values


def _stacked(paths: list[Path], colours: bool) -> np.ndarray:
    """Pictures of one size as an array of single precision."""
    rows = []
    for path in paths:
        with _open(path) as picture:
            try:
                rows.append(_levels(picture, path, colours))
            except (OSError, SyntaxError) as error:
                raise ValueError(f"{path} is no picture that can be read ({error})") from None
        if rows[-1].shape != rows[0].shape:
            height, width = rows[-1].shape[-2:]
            raise ValueError(
                f"{path} has {height} x {width} pixels, {paths[0].name} {rows[0].shape[-2]} x {rows[0].shape[-1]}; "
                "expected pictures of one size: crop or scale them first"
            )
    return np.stack(rows) if rows else np.zeros((0, 1, 1), dtype=np.float32)
