"""Rows with unknown values, as ``pyro-dgm impute --rows`` reads them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def incomplete_rows(path: str | os.PathLike[str], visible: int) -> Tensor:
    """Rows of a ``.npy`` file, or of an ``.npz`` file's array ``x``, with NaN where a value is unknown: ``rows x visible``.

    Args:
        path: the file.
        visible: the number of columns; axes after the first are flattened.

    Raises:
        ValueError: no such file, a file of another kind, an infinite value, or rows of another size.
    """
    file = Path(path)
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file} cannot be read ({str(error).splitlines()[0]}); expected rows as numpy.save writes them, with NaN where a "
            "value is unknown"
        ) from None
    if isinstance(array, np.lib.npyio.NpzFile):
        if "x" not in array:
            raise ValueError(f"{file} has the arrays {', '.join(array)}; expected an array named 'x'")
        array = array["x"]
    if array.dtype.kind not in "buif" or array.ndim < 2 or len(array) == 0 or array[0].size != visible:
        raise ValueError(
            f"{file} holds {array.dtype} of shape {array.shape}; expected real numbers, rows of {visible} columns, NaN where a "
            "value is unknown"
        )
    rows = torch.from_numpy(array.reshape(len(array), -1).astype(np.float32))
    if bool(rows.isinf().any()):
        raise ValueError(
            f"{file} has an infinite value, first in row {int(rows.isinf().any(1).nonzero()[0])}; expected finite values "
            "or NaN where a value is unknown"
        )
    return rows
