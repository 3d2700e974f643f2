"""Data sets of sequences, read from their files as padded rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .dataset import Dataset, Split
from .locate import find
from .npz import unpack
from .reading import read_arrays
from .sequences import pad
from .space import Space

KEYS = 88
"""The number of keys of a piano roll."""


def jsb_chorales(folder: Path | None) -> Dataset:
    """Bach's chorales as piano rolls: 229/76/77 sequences of up to 160 frames of 88 bits.

    The splits are the published ones (Boulanger-Lewandowski, Bengio and Vincent 2012), padded by ``pad``; figures are in nats
    per sequence.

    Args:
        folder: the folder of ``jsb_chorales.npz``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    return _piano_rolls("jsb_chorales", "The chorales", folder)


def nottingham(folder: Path | None) -> Dataset:
    """Folk tunes of the Nottingham collection as piano rolls: 694/173/170 sequences of up to 1793 frames of 88 bits.

    As ``jsb_chorales``. Padded rows take 0.7 GB of memory, most of it zeros.

    Args:
        folder: the folder of ``nottingham.npz``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    return _piano_rolls("nottingham", "The tunes", folder)


def _piano_rolls(name: str, what: str, folder: Path | None) -> Dataset:
    """One of the sets of Boulanger-Lewandowski, Bengio and Vincent (2012)."""
    origin = (
        f"{what} may be had from Nicolas Boulanger-Lewandowski's page or with pyro.contrib.examples.polyphonic_data_"
        "loader; join each split's frames, pack them with numpy.packbits(frames, axis=1), save train, valid, test and "
        "train_lengths, valid_lengths, test_lengths."
    )
    path, parts = _read(f"{name}.npz", folder, ("train", "valid", "test"), origin, _bits)
    return _dataset(name, path, parts, Space("binary", "piano rolls"), picture=True)


def motion_capture(folder: Path | None) -> Dataset:
    """Motion capture: 32/3/4 sequences of up to 100 frames of 49 real numbers (Taylor, Hinton and Roweis 2007).

    The channels of the file are standardised: over the training frames their means are within 0.1 of 0 and their standard
    deviations within 0.1 of 1. The published split has 35 training and 4 test sequences. The 35 are one recording cut into
    pieces. The last three are held out for validation, so that training and validation frames meet at one cut only. Figures
    are in nats per sequence.

    Args:
        folder: the folder of ``mocap_mit.npz``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    origin = (
        "The motion data may be had with the code of Gan et al.'s temporal sigmoid belief networks; save train and test, "
        "frames x 49, and train_lengths and test_lengths."
    )
    path, parts = _read("mocap_mit.npz", folder, ("train", "test"), origin, _numbers)
    held_out = max(len(parts["train"]) // 10, 1)
    if len(parts["train"]) <= held_out:
        raise ValueError(f"{path}: {len(parts['train'])} training sequences are too few to hold one out")
    parts |= {"valid": parts["train"][-held_out:], "train": parts["train"][:-held_out]}
    return _dataset("mocap_mit", path, parts, Space("real", "standardised channels"), picture=False)


def _read(
    file: str,
    folder: Path | None,
    parts: tuple[str, ...],
    origin: str,
    frames: Callable[[Path, str, np.ndarray], np.ndarray],
) -> tuple[Path, dict[str, list[Tensor]]]:
    """The file's path, and every split's sequences, which are stored as an array of all frames and one of lengths."""
    path = find([file], [] if folder is None else [folder], origin)
    arrays = read_arrays(path)
    sequences: dict[str, list[Tensor]] = {}
    for part in parts:
        for key in (part, f"{part}_lengths"):
            if key not in arrays:
                raise ValueError(f"{path} has no array {key!r}, only: {', '.join(arrays) or 'nothing'}. {origin}")
        lengths, content = arrays[f"{part}_lengths"], frames(path, part, arrays[part])
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 1).any() or lengths.sum() != len(content):
            raise ValueError(
                f"{path}: '{part}_lengths' is {lengths.dtype} of shape {lengths.shape} with sum {lengths.sum()}; expected "
                f"a positive whole number per sequence, {len(content)} together, the number of frames of {part!r}"
            )
        sequences[part] = list(torch.from_numpy(content.astype(np.float32)).split(lengths.tolist()))
    return path, sequences


def _bits(path: Path, part: str, array: np.ndarray) -> np.ndarray:
    """Frames of packed bits, unpacked."""
    return unpack(path, part, array, KEYS)


def _numbers(path: Path, part: str, array: np.ndarray) -> np.ndarray:
    """Frames of real numbers, checked."""
    if array.ndim != 2 or array.dtype.kind != "f":
        raise ValueError(
            f"{path}: {part!r} is {array.dtype} of shape {array.shape}; expected frames x channels, floats"
        )
    return array


def _dataset(name: str, path: Path, parts: dict[str, list[Tensor]], space: Space, picture: bool) -> Dataset:
    """The data set of sequences padded to the longest of all splits."""
    length = max(len(sequence) for part in parts.values() for sequence in part)
    try:
        train, valid, test = (Split(pad(parts[part], length), space) for part in ("train", "valid", "test"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    columns = train.x.shape[1] // length
    shape = (length, columns) if picture else (length * columns,)
    return Dataset(name, train, valid, test, shape, features=columns - 1)
