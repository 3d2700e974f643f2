"""The idx format in which MNIST is published."""

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from .reading import RATIO, regular

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""NumPy types by the third byte of a file."""

_AXES = 8
"""The most axes that are read."""


def read_idx(path: Path) -> np.ndarray:
    """Read an idx file, gzipped or plain.

    Args:
        path: the file; whether it is gzipped is read from its content, not its name.

    Raises:
        ValueError: the file is truncated or not in idx format; the message names it.
    """
    data = regular(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = _unpacked(path, data)
    dtype, shape = _header(path, data)
    start, expected = 4 + 4 * len(shape), math.prod(shape) * dtype.itemsize
    if len(data) != start + expected:
        raise ValueError(
            f"{path} holds {len(data)} bytes (unpacked) where its header, shape {shape}, asks for {start + expected}; "
            "it is truncated or corrupt: fetch it again."
        )
    return np.frombuffer(data, dtype=dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _unpacked(path: Path, data: bytes) -> bytes:
    """The unpacked bytes of a gzip file, of which no more are made than its idx header asks for (and one, which is too many)."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            start = stream.read(4 + 4 * 255)
            dtype, shape = _header(path, start)
            asked = 4 + 4 * len(shape) + math.prod(shape) * dtype.itemsize
            if asked > RATIO * (len(data) + 1):
                raise ValueError(
                    f"{path}: its header, shape {shape}, asks for more than its {len(data)} bytes can unpack to."
                )
            return start + stream.read(max(asked + 1 - len(start), 0))
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is a truncated or corrupt gzip file ({error}); fetch it again.") from error


def _header(path: Path, data: bytes) -> tuple[np.dtype, tuple[int, ...]]:
    """The type and the shape that an idx file states."""
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or data[3] > _AXES:
        raise ValueError(
            f"{path} starts with bytes {data[:4].hex(' ') or '(none)'}; expected an idx file, which starts with "
            "00 00, a type and a number of axes: fetch it again."
        )
    sides = data[4 : 4 + 4 * data[3]]
    if len(sides) < 4 * data[3]:
        raise ValueError(f"{path} ends within its header; it is truncated: fetch it again.")
    return np.dtype(_TYPES[data[2]]), tuple(int(side) for side in np.frombuffer(sides, dtype=">u4"))
