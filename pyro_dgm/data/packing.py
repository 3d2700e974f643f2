"""Files of bits with eight of them in a byte."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from ..checks import described, shown
from ..files import write_atomically
from .mapped import AT_ONCE, MappedArray
from .reading import read_array


def pack(source: Any, target: str | os.PathLike[str]) -> None:
    """Write rows of bits into an npz file with eight bits in a byte, from which training reads them batch by batch.

    The file has the arrays ``train``, as ``numpy.packbits(rows, axis=1)`` makes it, and ``train_width``, the bits in a row; it is
    not compressed. Rows of a large file are gone through in blocks, so that neither they nor the bytes fill the memory.

    Args:
        source: the path of a npy file, an array or a tensor: rows of 0 and 1, of any type and with one or more axes, which are
            flattened.
        target: the path of the file, which ends in .npz.

    Raises:
        ValueError: other values than 0 and 1, of which the first is named; no rows; another ending.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "bits.npz")
    >>> pack(np.eye(20, dtype=bool), path)
    >>> {name: array.shape for name, array in np.load(path).items()}
    {'train': (20, 3), 'train_width': ()}
    """
    path = Path(target).expanduser() if isinstance(target, str | os.PathLike) else None
    if path is None or path.suffix != ".npz":
        raise ValueError(f"target got {shown(target)}; expected a path that ends in .npz")
    is_path = isinstance(source, str | os.PathLike)
    array = read_array(source, stay=True) if is_path else source
    if isinstance(array, torch.Tensor):
        dense = array.detach().cpu().to_dense() if array.layout != torch.strided else array.detach().cpu()
        array = (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy()
    name = os.fspath(source) if is_path else "source"
    if (
        not isinstance(array, np.ndarray | MappedArray)
        or array.ndim < 2
        or not array.size
        or array.dtype.kind not in "buif"
    ):
        raise ValueError(f"{name} got {described(array)}; expected rows of bits, rows x columns, none of them empty")
    width = math.prod(array.shape[1:])
    write_atomically(path, lambda file: write_packed(file, len(array), width, _bits(array, width, name)))


def write_packed(file: IO[bytes], rows: int, width: int, blocks: Iterable[np.ndarray]) -> None:
    """Write so many rows of bits, which come in blocks of rows, as ``pack`` does."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("train.npy", "w", force_zip64=True) as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": (rows, -(-width // 8))}
            np.lib.format.write_array_header_1_0(member, header)
            for block in blocks:
                member.write(np.packbits(block, axis=1).data)
        with archive.open("train_width.npy", "w") as member:
            np.lib.format.write_array(member, np.array(width))


def _bits(array: Any, width: int, name: str) -> Iterable[np.ndarray]:
    """The rows in blocks of booleans, checked."""
    step = max(1, AT_ONCE // width)
    for start in range(0, len(array), step):
        part = slice(start, start + step)
        block = (array.read(part) if isinstance(array, MappedArray) else array[part]).reshape(-1, width)
        if strange := np.argwhere((block != 0) & (block != 1)).tolist()[:1]:
            row, column = strange[0]
            raise ValueError(
                f"{name} has the value {block[row, column]:g} in row {start + row}, column {column}; expected 0 or 1: set a "
                "threshold, as x > 0.5"
            )
        yield block != 0
