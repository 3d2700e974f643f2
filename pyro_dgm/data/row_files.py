"""Rows of a file that is no dataset of its own: rows with unknown values, and rows to evaluate."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import check_choice, described
from .dataset import Split
from .npz import infer_space, labels_of, rows_of
from .pictures import read_pictures
from .reading import read_array, read_arrays
from .sources import TABLES, load, located, names
from .stored import matrix
from .tables import Columns


def read_values(path: Path, columns: Columns | None = None) -> dict[str, np.ndarray]:
    """The arrays ``x``, and ``x_labels`` if there are labels, of a file or of a folder of pictures.

    Args:
        path: a npy, csv, Parquet or npz file, or a folder.
        columns: what a table's columns are; by default what they seem to be.

    Raises:
        ValueError: the file cannot be read, or has no such array; a table has other columns.
    """
    if path.is_dir():
        arrays = read_pictures(path)
        return {name.replace("train", "x"): array for name, array in arrays.items() if name.startswith("train")}
    if path.suffix in TABLES:
        names_of_run = [column.name for column in columns.ordered] if columns and columns.named else []
        fields, named = TABLES[path.suffix](path, names_of_run)
        columns = columns or Columns.of(fields, named, str(path))
        rows, labels = columns.code(fields, named, str(path))
        return {"x": rows} if labels is None else {"x": rows, "x_labels": labels}
    if path.suffix == ".npz":
        arrays = read_arrays(path)
        if "x" not in arrays:
            raise ValueError(f"{path} has the arrays {', '.join(arrays) or 'none'}; expected an array named 'x'")
        return {name: array for name, array in arrays.items() if name in ("x", "x_labels")}
    return {"x": read_array(path)}


def incomplete_rows(
    path: str | os.PathLike[str], visible: int, classes: int = 0, columns: Columns | None = None
) -> tuple[Tensor, Tensor | None]:
    """Rows of a file, or of an npz file's array ``x``, with NaN where a value is unknown: ``rows x visible``; and their labels.

    They are in double precision where the file's numbers are, as are those of a table.

    Args:
        path: the file.
        visible: the number of columns; axes after the first are flattened.
        classes: of these columns, the last, which are a label. Rows without it get one that is unknown.
        columns: the columns of a table, as for ``read_values``.

    Raises:
        ValueError: no such file, a file of another kind, an infinite value, or rows of another size.
    """
    file = Path(path).expanduser()
    widths = f"{visible - classes} (with their label {visible})" if classes else f"{visible}"
    try:
        arrays = read_values(file, columns)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}); expected rows of {widths} columns, .npy or .csv, with NaN (in a csv file: or "
            "nothing) where a value is unknown"
        ) from None
    array, shapes = arrays["x"], (visible, visible - classes)
    if array.dtype.kind not in "buif" or array.ndim < 2 or len(array) == 0 or array[0].size not in shapes:
        raise ValueError(
            f"{file} holds {array.dtype} of shape {array.shape}; expected real numbers, rows of {widths} columns, NaN where a "
            "value is unknown"
        )
    rows = matrix(array)
    if bool(rows.isinf().any()):
        raise ValueError(
            f"{file} has an infinite value, first in row {int(rows.isinf().any(1).nonzero()[0])}; expected finite values "
            "or NaN where a value is unknown"
        )
    missing = rows.new_full((len(rows), visible - rows.shape[1]), torch.nan)
    labels = labels_of(file, "x", arrays, len(rows))
    if missing.shape[1] and labels is not None:
        given = (labels >= 0) & (labels < classes)
        missing[given] = torch.nn.functional.one_hot(labels[given], classes).to(missing)
    return torch.cat([rows, missing], 1), labels


def split_of(name: str, part: str, data_dir: str | os.PathLike[str] | None = None) -> str | None:
    """The split that ``read_rows`` takes of a dataset or of a readable file; None where it takes all rows."""
    if name in names():
        return part
    path = Path(located(name, data_dir))
    if path.suffix != ".npz" or path.is_dir():
        return None
    with zipfile.ZipFile(path) as archive:
        return part if f"{part}.npy" in archive.namelist() else None


def read_rows(
    name: str, part: str = "test", data_dir: str | os.PathLike[str] | None = None, columns: Columns | None = None
) -> Split:
    """Complete rows by the name of a dataset, or of a file, in double precision where the file's numbers are.

    Args:
        name: one of ``names()``, a path ending in .npz, .npy, .csv or .parquet, or a folder of pictures.
        part: the split, of a dataset or of an npz file that has arrays of that name; the array ``x`` and other files are taken
            whole.
        data_dir: the folder of data files, as for ``load``.
        columns: the columns of a table, as for ``read_values``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or holds no rows of finite numbers.
    """
    if isinstance(name, str) and name in names():
        check_choice("part", part, ("train", "valid", "test"))
        return getattr(load(name, data_dir), part)
    if columns is not None and not isinstance(columns, Columns):
        raise ValueError(f"columns got {described(columns)}; expected those of a table, as dataset.columns has them")
    path = Path(located(name, data_dir))
    arrays: dict[str, Any] = {}
    if path.suffix == ".npz":
        arrays = read_arrays(path, stay=True)
    else:
        arrays = (
            {"x": read_array(path, stay=True)}
            if path.suffix == ".npy" and not path.is_dir()
            else read_values(path, columns)
        )
    key = split_of(name, part, data_dir) or "x"
    if key not in arrays:
        raise ValueError(
            f"{path} has the arrays {', '.join(arrays) or 'none'}; expected {part!r}, or 'x' for rows without splits"
        )
    rows = matrix(rows_of(path, key, arrays))
    return Split(rows, infer_space([rows]), labels_of(path, key, arrays, len(rows)))
