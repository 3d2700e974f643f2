"""Small files in the published formats."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dgm.data import Dataset, Space, Split

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def write_idx_file(path: Path, array: np.ndarray, packed: bool) -> Path:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape)
    data = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(data, compresslevel=1) if packed else data)
    return path


@pytest.fixture
def write_idx() -> Callable[[Path, np.ndarray, bool], Path]:
    return write_idx_file


@pytest.fixture
def grey() -> Dataset:
    generator = torch.Generator().manual_seed(1)
    space = Space("unit interval", "grey levels")
    train, valid, test = (Split(torch.rand(n, 6, generator=generator), space, torch.arange(n)) for n in (23, 5, 4))
    return Dataset("grey", train, valid, test, (2, 3))
