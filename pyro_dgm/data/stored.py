"""Rows that stay in a file, as a tensor of which parts are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..calls import warn_caller
from ..checks import memory
from .mapped import AT_ONCE, MappedArray

LARGEST_SLICE = 2**28
"""The most bytes of a slice that is read at once; larger ones stay in the file."""

SPREAD = 2**16
"""The most rows from which parameters start, and by which an epoch is judged."""


def row_by_row(x: Tensor) -> Tensor:
    """Rows that lie one behind the other in memory, as loops over them read it; those of tables may lie column by column.

    Example:
        >>> row_by_row(torch.eye(2, 3).t()).stride()
        (2, 1)
    """
    return x if isinstance(x, StoredRows) else x.contiguous()


class StoredRows(Tensor):
    """A matrix whose rows stay in a file, ``rows x columns``.

    Batches by number (``x[index]``), slices (``x[:1000]``) and blocks (``x.split(n)``, one after another) are read as tensors of
    their own. Everything else needs all rows: they are then read with a warning that says how much memory that takes, or
    refused where it is more than half of the machine's.

    Args:
        source: the rows in the file.
        dtype: the floating-point type of what is read.
        device: the device to which it is read.
    """

    source: MappedArray

    @staticmethod
    def __new__(
        cls, source: MappedArray, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StoredRows:
        shape = len(source), source.size // max(1, len(source))
        made: StoredRows = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=torch.device(device))
        made.source = source
        return made

    def __init__(
        self, source: MappedArray, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, Tensor) and index.ndim == 1 and index.dtype != torch.bool:
            return self._read(index.cpu().numpy())
        if isinstance(index, slice):
            part = self.part(index)
            return part if part.nbytes > LARGEST_SLICE else self._read(index)
        return self.whole()[index]

    def part(self, rows: slice | np.ndarray) -> Self:
        """Some of the rows, which stay in the file."""
        return type(self)(self.source[rows], self.dtype, self.device)

    def split(self, split_size: Any, dim: int = 0) -> Iterator[Tensor]:  # type: ignore[override]
        """The rows in blocks of a size, one after another, each read when it is its turn."""
        if dim != 0 or not isinstance(split_size, int):
            return iter(self.whole().split(split_size, dim))
        return (self._read(slice(start, start + split_size)) for start in range(0, len(self), split_size))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The same rows, read to another device or in another precision."""
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        device, dtype = device or self.device, dtype or self.dtype
        return self if (device, dtype) == (self.device, self.dtype) else type(self)(self.source, dtype, device)

    def cpu(self, *layout: Any, **options: Any) -> Self:
        return self.to("cpu")

    def float(self) -> Self:
        return self.to(torch.float32)

    def double(self) -> Self:
        return self.to(torch.float64)

    def whole(self) -> Tensor:
        """All rows in memory.

        Raises:
            ValueError: they need more than half of the machine's memory.

        Warns:
            UserWarning: what they need.
        """
        needed = (
            f"{self.source.path}: {len(self)} rows of {self.shape[1]} columns stay in their file, but this needs all of them in "
            f"memory, {self.nbytes / 1e9:.3g} GB"
        )
        if self.nbytes > memory() / 2:
            raise ValueError(f"{needed}; give some rows of a split, as data.test[:10000]")
        warn_caller(needed)
        return self._read(slice(None))

    def _read(self, rows: slice | np.ndarray) -> Tensor:
        block = self.source.read(rows)
        wide = np.float64 if self.dtype == torch.float64 else np.float32
        numbers = torch.from_numpy(block.reshape(len(block), -1).astype(wide))
        return numbers.to(self.device, self.dtype)

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return f"StoredRows({str(self.source.path)!r}, {len(self)} x {self.shape[1]}, {self.dtype}, {self.device})"

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.source, self.dtype, self.device)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in KNOWN_WITHOUT_READING:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        args, kwargs = torch.utils._pytree.tree_map_only(StoredRows, StoredRows.whole, (args, kwargs or {}))
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        args, kwargs = torch.utils._pytree.tree_map_only(StoredRows, StoredRows.whole, (args, kwargs or {}))
        return func(*args, **kwargs)


KNOWN_WITHOUT_READING = {
    *(getattr(Tensor, name).__get__ for name in (
        "shape", "dtype", "device", "ndim", "layout", "nbytes", "requires_grad", "is_cuda", "is_sparse", "is_meta", "itemsize",
    )),
    *(getattr(Tensor, name) for name in (
        "size", "dim", "numel", "nelement", "element_size", "is_floating_point", "is_complex", "__len__", "__hash__",
    )),
    torch.is_floating_point, torch.is_complex, torch.numel,
}  # fmt: skip
"""What torch tells of a tensor from its type alone."""


def matrix(array: np.ndarray | MappedArray) -> Tensor:
    """Rows of numbers as ``rows x columns``: of types that single precision does not hold, in double precision.

    Rows that stay in a file are read in single precision, or in another that ``to`` asks for.
    """
    if isinstance(array, MappedArray):
        return StoredRows(array)
    wide = np.result_type(array.dtype, np.float32)
    return torch.from_numpy(
        np.ascontiguousarray(array.reshape(len(array), -1), np.float64 if wide.itemsize > 4 else np.float32)
    )


def holds_bits(x: Tensor) -> bool:
    """Whether rows are bits because their file holds nothing else."""
    return isinstance(x, StoredRows) and (x.source.width is not None or x.source.kind.kind == "b")


def blocks(x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """A matrix in blocks of rows, each with the number of its first row: what is in memory already is one block."""
    if not isinstance(x, StoredRows):
        yield 0, x
        return
    size = max(1, AT_ONCE // max(1, x.shape[1]))
    yield from ((number * size, rows) for number, rows in enumerate(x.split(size)))


def in_order_of_file(x: Tensor) -> Tensor:
    """The same rows, those of a file in the order in which they are read fastest."""
    return StoredRows(x.source.in_order(), x.dtype, x.device) if isinstance(x, StoredRows) else x


def spread_rows(x: Tensor, most: int | None = None) -> Tensor:
    """All rows in memory, or ``most`` (``SPREAD`` by default) at the largest from all over them: every second, every third, ...

    >>> spread_rows(torch.arange(10).unsqueeze(1), 4).T
    tensor([[0, 3, 6, 9]])
    """
    if len(x) <= (SPREAD if most is None else most) and not isinstance(x, StoredRows):
        return x
    return x[spread(len(x), most).to(x.device)]


def spread(count: int, most: int | None = None) -> Tensor:
    """The numbers of the rows that ``spread_rows`` takes of so many."""
    return torch.arange(0, count, -(-count // (SPREAD if most is None else most)))
