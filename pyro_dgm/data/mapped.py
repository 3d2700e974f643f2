"""Arrays that stay in their file: rows are read from a memory map when they are asked for."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

AT_ONCE = 2**20
"""Numbers that are read at once when all rows are gone through."""


@dataclass(frozen=True, eq=False)
class MappedArray:
    """Rows of numbers in a file, stored one after another, plain or with eight bits packed to a byte.

    Nothing is held in memory but the numbers of rows, where they are not all rows in order. Pages of the file that were read
    are given back at once, so that they do not count as this process's memory.

    Args:
        path: the file.
        offset: the byte at which the first row begins.
        stored: the shape of the array as it is stored.
        kind: the type of the stored numbers.
        width: the bits in a row of packed ones, as ``numpy.packbits(rows, axis=1)`` makes them; None of plain numbers.
        index: the numbers of the rows in their order; None for all.
    """

    path: Path
    offset: int
    stored: tuple[int, ...]
    kind: np.dtype[Any]
    width: int | None = None
    index: np.ndarray | None = None
    stamp: tuple[int, int] = field(default=(0, 0))
    _opened: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.stamp == (0, 0):
            object.__setattr__(self, "stamp", _stamp(os.stat(self.path)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and the shape of each."""
        rows = self.stored[0] if self.index is None else len(self.index)
        return (rows, *(self.stored[1:] if self.width is None else (self.width,)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers that come from ``read``."""
        return self.kind if self.width is None else np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> MappedArray:
        """Some of the rows, which stay in the file."""
        return replace(self, index=self._numbers(rows))

    def unpacked(self, width: int) -> MappedArray:
        """The same rows as bits."""
        return replace(self, width=width)

    def in_order(self) -> MappedArray:
        """The same rows in the order of the file."""
        return self if self.index is None else replace(self, index=np.sort(self.index))

    def digest(self) -> bytes:
        """A checksum of the file's rows, of their type and shape, and of the numbers of the rows that are meant."""
        if "digest" not in self._opened:
            found = hashlib.sha256(repr((self.stored, self.kind.str)).encode())
            whole = replace(self, index=None, width=None)
            for _, block in whole.blocks():
                found.update(block.data)
            self._opened["digest"] = found.digest()
        index = b"" if self.index is None else np.ascontiguousarray(self.index).data
        return hashlib.sha256(self._opened["digest"] + repr(self.width).encode() + index).digest()

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Some of the rows in memory.

        Raises:
            OSError: the file has become another since it was opened.
        """
        if _stamp(os.stat(self.path)) != self.stamp:  # the pages of a file that was cut off would end this process
            raise OSError(f"{self.path} has changed since it was opened; restore the file and resume the run")
        array, mapped = self._open()
        found = array[self._numbers(rows)]
        if hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)
        return found if self.width is None else np.unpackbits(found, axis=1, count=self.width)

    def blocks(self) -> Any:
        """All rows in blocks, each with the number of its first row."""
        step = max(1, AT_ONCE // max(1, self.size // max(1, len(self))))
        for start in range(0, len(self), step):
            yield start, self.read(slice(start, start + step))

    def _numbers(self, rows: slice | np.ndarray) -> np.ndarray:
        """The places of rows in the file."""
        if isinstance(rows, slice):
            return np.arange(*rows.indices(len(self))) if self.index is None else self.index[rows]
        if self.index is not None:
            return self.index[rows]
        return np.where(rows < 0, rows + len(self), rows)

    def _open(self) -> tuple[np.ndarray, mmap.mmap]:
        """The stored array as a map of the file; opened once in every process."""
        if "map" not in self._opened:
            with open(self.path, "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            array: np.ndarray = np.ndarray(self.stored, self.kind, mapped, self.offset)
            self._opened["map"] = array, mapped
        return self._opened["map"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
