"""What users have their rows in, as tensors: the one conversion behind everything that takes data."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate
from torch.utils.data import Dataset as TorchDataset

from ..checks import described
from .dataset import Dataset, Split
from .frames import fields_of, is_frame
from .npz import rows_of
from .precision import in_precision
from .reading import stored_rows
from .sources import load
from .space import Space
from .stored import StoredRows, row_by_row
from .tables import Columns


def as_rows(x: Any, name: str = "data") -> Tensor:
    """Rows as a dense tensor of floating-point numbers.

    Args:
        x: a tensor, a NumPy array, a DataFrame (anything with ``to_numpy``) or a sparse matrix, of real numbers. The rows of a
            large memory map (``numpy.memmap``, ``numpy.load(path, mmap_mode="r")``) stay in its file, as those of a path do.
        name: the name of the argument in messages.

    Raises:
        ValueError: something else, or entries that are no real numbers; the message never holds the entries.

    >>> as_rows(np.eye(2, dtype=int))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if isinstance(x, np.memmap) and x.ndim == 2 and (rows := stored_rows(x)) is not None:
        kind = torch.float64 if x.dtype == np.float64 else torch.get_default_dtype()
        return StoredRows(rows_of(rows.path, name, {name: rows}), kind)
    tensor = x if isinstance(x, Tensor) else torch.tensor(np.ascontiguousarray(_array(x, name)))
    tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
    if tensor.is_complex():
        raise ValueError(f"{name} got {described(x)}; expected real numbers")
    return row_by_row(tensor if tensor.is_floating_point() else in_precision(tensor, torch.get_default_dtype(), name))


def _array(x: Any, name: str) -> np.ndarray:
    """An array of numbers, of a type that torch has."""
    if hasattr(x, "toarray"):  # a sparse matrix of SciPy
        x = x.toarray()
    if not isinstance(x, np.ndarray) and not hasattr(x, "to_numpy"):
        raise ValueError(
            f"{name} got {described(x)}; expected a tensor, a NumPy array or a DataFrame of numbers, rows x columns"
        )
    array = x if isinstance(x, np.ndarray) else np.asarray(x.to_numpy())
    if array.dtype.kind == "O" or (array.dtype.itemsize > 8 and array.dtype.kind == "f"):
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            pass
    if array.dtype.kind not in "buifc":
        raise ValueError(f"{name} got {described(x)}, with entries that are no numbers; expected numbers alone")
    return array


def as_booleans(known: Any) -> Any:
    """Booleans as a tensor, from whatever holds rows; anything else as it is, for its check to refuse."""
    if isinstance(known, Tensor):
        return known
    array = np.asarray(known.to_numpy() if hasattr(known, "to_numpy") else known)
    return torch.tensor(array) if array.dtype == bool else known


def as_split(data: Any, name: str = "data") -> Split:
    """Rows, with their labels if they have any.

    Args:
        data: a ``Split``; rows as ``as_rows`` takes them; or a dataset of torch whose items are rows, or pairs of a row and its
            label. Of a ``DataLoader`` the dataset is taken, in its order: whoever trains makes batches itself.
        name: the name of the argument in messages.

    Raises:
        ValueError: something else.

    >>> rows = torch.utils.data.TensorDataset(torch.eye(3), torch.tensor([0, 1, 0]))
    >>> as_split(torch.utils.data.DataLoader(rows, batch_size=2)).labels
    tensor([0, 1, 0])
    """
    if isinstance(data, Split):
        return data
    if isinstance(data, DataLoader):
        data = data.dataset
    if not isinstance(data, TorchDataset):
        return Split(as_rows(data, name), Space("not stated"))
    if isinstance(data, IterableDataset):
        raise ValueError(
            f"{name} got {described(data)}, whose rows have no numbers; expected a dataset with items 0, 1, …"
        )
    items = data[:] if isinstance(data, torch.utils.data.TensorDataset) else _collated(data, name)
    columns = list(items) if isinstance(items, list | tuple) else [items]
    if len(columns) not in (1, 2) or not all(isinstance(column, Tensor) for column in columns):
        raise ValueError(
            f"{name} got {described(data)} with items of {len(columns)} parts; expected a row, or a row and a label"
        )
    return Split(as_rows(columns[0], name), Space("not stated"), columns[1] if len(columns) == 2 else None)


def _collated(data: Any, name: str) -> Any:
    """All items of a dataset as one batch."""
    try:
        return default_collate([data[number] for number in range(len(data))])
    except (TypeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{name} got {described(data)}, whose items do not make rows ({reason})") from None


def as_dataset(data: Any, name: str = "data") -> Dataset:
    """A dataset; of rows without splits, the last tenth is held out for validation.

    A data frame may have texts, as ``load`` codes them; a name or a path is what ``load`` makes of it.

    Raises:
        ValueError: as ``as_split``; fewer than two rows; a name of no data set.

    >>> len(as_dataset(np.zeros((20, 3))).valid)
    2
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str | os.PathLike):
        return load(data)
    if not is_frame(data):
        return Dataset.of_rows(as_split(data, name))
    fields = fields_of(data, name)
    columns = Columns.of(fields, True, name)
    coded = torch.from_numpy(columns.code(fields, True, name)[0])
    rows = in_precision(coded, torch.get_default_dtype(), name, columns.numbers)
    return replace(Dataset.of_rows(rows), columns=columns)
