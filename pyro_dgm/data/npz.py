"""Data sets in NumPy's npz files, plain or with eight bits packed to a byte."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .dataset import Dataset, Split
from .mapped import MappedArray
from .reading import read_arrays
from .space import Space
from .stored import blocks, holds_bits, matrix
from .tables import UNLABELLED

SPLIT_SEED = 0
"""The seed of the permutation by which rows are dealt into splits."""

LARGEST = 2**31
"""The largest label."""

PARTS = ("train", "valid", "test")
"""The splits that a file may have."""

OTHER_NAMES = {"val": "valid", "validation": "valid", "dev": "valid"}
"""What others call a split."""


def permutation(count: int) -> np.ndarray:
    """The fixed order in which data without published splits are dealt into splits.

    >>> permutation(4).tolist()
    [2, 3, 1, 0]
    """
    # NumPy's policy freezes the stream of RandomState; that of default_rng may change between releases.
    return np.random.RandomState(SPLIT_SEED).permutation(count)


def unpack(path: Path, key: str, packed: Any, width: int) -> Any:
    """Undo numpy.packbits(axis=1) on rows of `width` bits.

    Raises:
        ValueError: `packed` cannot hold rows of that width; the message names the file and the array.
    """
    if packed.dtype != np.uint8 or packed.ndim != 2 or width < 1 or packed.shape[1] != -(-width // 8):
        raise ValueError(
            f"{path}: array {key!r} is {packed.dtype} of shape {packed.shape}; rows of {width} packed bits need "
            f"uint8 of shape (N, {-(-width // 8)}), as numpy.packbits(bits, axis=1) makes them."
        )
    return packed.unpacked(width) if isinstance(packed, MappedArray) else np.unpackbits(packed, axis=1, count=width)


def read_npz(path: Path) -> Dataset:
    """Read `train`, and `valid` and `test` where present, from an npz file.

    An array with a companion scalar such as `train_width` holds packed bits; any other array holds N rows of numbers of
    any shape, NaN where a value is missing. `train_labels` and so on are optional; NaN or -1 there is a row without label. A
    missing `valid` or `test` is a tenth of `train`, split off by a fixed permutation. The space is that of `infer_space`.
    Rows of more than 1 GiB in single precision stay in the file, if it is not compressed, and are read batch by batch.

    Args:
        path: the file.

    Raises:
        ValueError: the content does not fit this layout; the message names the file.
    """
    return dataset_of(path, read_arrays(path, stay=True))


def dataset_of(path: Path, arrays: Mapping[str, np.ndarray | MappedArray]) -> Dataset:
    """The dataset of a file's arrays, in the layout of ``read_npz``."""
    sequences = [key for key in arrays if key.endswith("_lengths")]
    if sequences:
        raise ValueError(
            f"{path} holds sequences (array {sequences[0]!r}), which are for sequence models; expected independent "
            "rows."
        )
    if "train" not in arrays:
        raise ValueError(
            f"{path} has no array 'train', only: {', '.join(arrays) or 'nothing'}; write the rows with "
            "numpy.savez(path, train=rows) (and valid, test where they exist)."
        )
    _refuse_slips(path, arrays)
    present: list[str] = [part for part in PARTS if part in arrays]
    rows = {part: rows_of(path, part, arrays) for part in present}
    labels = {part: labels_of(path, part, arrays, len(rows[part])) for part in rows}
    space = infer_space([matrix(array) for array in rows.values()])
    _split_off(path, rows, labels)
    shape = rows["train"].shape[1:]
    for part, array in rows.items():
        if array.shape[1:] != shape:
            raise ValueError(f"{path}: rows of {part!r} have shape {array.shape[1:]}, rows of 'train' {shape}.")
    splits = {part: Split(matrix(array), space, labels[part]) for part, array in rows.items()}
    return Dataset(path.stem, splits["train"], splits["valid"], splits["test"], shape)


def _refuse_slips(path: Path, names: Iterable[str]) -> None:
    """Refuse arrays with nearly the name of a split: left aside, its rows would be dealt out of ``train``."""
    known = [part + what for part in PARTS for what in ("", "_width", "_labels")]
    for name in names:
        part, _, what = name.partition("_")
        other = OTHER_NAMES.get(part, part) + (f"_{what}" if what else "")
        letters = [meant for meant in known if sorted(meant) == sorted(other)]
        meant = letters or difflib.get_close_matches(other, known, 1, 0.85)
        if name not in known and meant:
            raise ValueError(f"{path} has an array {name!r}; expected {meant[0]!r}: rename it, or leave it out")


def infer_space(parts: list[torch.Tensor]) -> Space:
    """The smallest space of binary, unit interval, whole numbers and real that holds all known values, marked "as given".

    >>> str(infer_space([torch.tensor([0.0, 0.5]), torch.tensor([1.0])]))
    'unit interval (as given)'
    """
    binary = unit = whole = True
    for part in parts:
        for _, rows in () if holds_bits(part) else blocks(part):
            x = rows[~rows.isnan()]
            binary = binary and bool(((x == 0) | (x == 1)).all())
            unit = unit and bool(((x >= 0) & (x <= 1)).all())
            whole = whole and bool((x == x.round()).all())
    support = "binary" if binary else "unit interval" if unit else "whole numbers" if whole else "real"
    return Space(support, "as given")


def rows_of(path: Path, part: str, arrays: Mapping[str, np.ndarray | MappedArray]) -> Any:
    """The rows of a split, unpacked and checked."""
    array: Any = arrays[part]
    width: Any = arrays.get(f"{part}_width")
    if width is not None:
        if width.ndim != 0 or width.dtype.kind not in "iu":
            raise ValueError(f"{path}: '{part}_width' is {width!r}; expected a whole number, the bits in a row.")
        array = unpack(path, part, array, int(width))
    if array.ndim < 2 or array.dtype.kind not in "buif" or array.size == 0:
        raise ValueError(
            f"{path}: array {part!r} is {array.dtype} of shape {array.shape}; expected real numbers, N rows "
            "of one or more axes, none of them empty."
        )
    # Dataset checks this too, but counts rows within splits; here the row number is that in the file.
    stays = isinstance(array, MappedArray)
    for start, block in () if array.dtype.kind != "f" else array.blocks() if stays else [(0, array)]:
        infinite = np.isinf(block).reshape(len(block), -1).any(1)
        if infinite.any():
            raise ValueError(
                f"{path}: array {part!r} has an infinite value, first in row {start + int(np.argmax(infinite))}; expected finite "
                "values, or NaN where one is missing."
            )
    return array


def labels_of(path: Path, part: str, arrays: Mapping[str, np.ndarray | MappedArray], count: int) -> torch.Tensor | None:
    """The labels of a split with ``count`` rows, checked, ``UNLABELLED`` where they are NaN; None if it has none."""
    array: Any = arrays.get(f"{part}_labels")
    if array is None:
        return None
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), UNLABELLED, array)
        if ((np.abs(array) <= LARGEST) & (array == np.rint(array))).all():
            array = array.astype(np.int64)
    if array.shape != (count,) or array.dtype.kind not in "biu":
        raise ValueError(
            f"{path}: '{part}_labels' is {array.dtype} of shape {array.shape}; expected {count} whole numbers, "
            "one for each row, or NaN for a row without label."
        )
    if len(strange := array[(array < UNLABELLED) | (array > LARGEST)]):
        raise ValueError(
            f"{path}: '{part}_labels' has the value {strange[0]}; expected classes from 0, or -1 for a row without"
        )
    return torch.from_numpy(array.astype(np.int64))


def _split_off(path: Path, rows: dict[str, Any], labels: dict[str, torch.Tensor | None]) -> None:
    """Move a tenth of the training rows to each missing split, in place."""
    missing = [part for part in ("valid", "test") if part not in rows]
    if not missing:
        return
    train, train_labels = rows["train"], labels["train"]
    size = max(1, len(train) // 10)
    if len(train) <= size * len(missing):
        raise ValueError(
            f"{path}: {len(train)} training rows are too few to split off {' and '.join(missing)}; give more rows."
        )
    order = permutation(len(train))
    held_out = {part: order[i * size : (i + 1) * size] for i, part in enumerate(missing)}
    for part, index in {**held_out, "train": order[len(missing) * size :]}.items():
        rows[part] = train[index]
        labels[part] = None if train_labels is None else train_labels[torch.from_numpy(index)]
