"""The idx format in which MNIST is published."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""NumPy types by the third byte of a file."""


def read_idx(path: Path) -> np.ndarray:
    """Read an idx file, gzipped or plain.

    Args:
        path: the file; whether it is gzipped is read from its content, not its name.

    Raises:
        ValueError: the file is truncated or not in idx format; the message names it.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is a truncated or corrupt gzip file ({error}); fetch it again.") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise ValueError(
            f"{path} starts with bytes {data[:4].hex(' ') or '(none)'}; expected an idx file, which starts with "
            "00 00, a type and a number of axes: fetch it again."
        )
    dtype, header = np.dtype(_TYPES[data[2]]), 4 + 4 * data[3]
    shape = tuple(int(side) for side in np.frombuffer(data[4:header][: (len(data[4:header]) // 4) * 4], dtype=">u4"))
    expected = header + math.prod(shape) * dtype.itemsize
    if len(shape) != data[3] or len(data) != expected:
        raise ValueError(
            f"{path} holds {len(data)} bytes (unpacked) where its header, shape {shape}, asks for {expected}; "
            "it is truncated or corrupt: fetch it again."
        )
    return np.frombuffer(data, dtype=dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))
