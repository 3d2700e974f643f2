"""The rows of a run whose data came from no file: they are kept in its folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset, Space, Split
from ..data.npz import read_npz
from ..data.tables import Columns
from ..files import write_atomically

ROWS = "rows.npz"
"""The file in a run's folder."""

LARGEST = 2**28
"""The most bytes of rows that are kept."""


def origin_of(data: Dataset) -> dict[str, Any] | None:
    """Where a run finds its data again: what they were loaded from, else rows in its own folder; None if these are too many.

    Rows that are drawn anew for every batch are not kept either.
    """
    size = sum(split.x.nbytes for split in (data.train, data.valid, data.test))
    if data.origin is not None:
        return data.origin
    return None if data.redraw is not None or size > LARGEST else {"source": ROWS, "binarisation": "none", "seed": 0}


def keep_rows(run: Path, data: Dataset) -> None:
    """Write the rows of a dataset into a run's folder, in splits and with their labels."""
    arrays: dict[str, Any] = {}
    for part in ("train", "valid", "test"):
        split: Split = getattr(data, part)
        arrays[part] = split.x.detach().cpu().reshape(len(split), *data.shape).numpy()
        if split.labels is not None and split.labels.ndim == 1:
            arrays[f"{part}_labels"] = split.labels.cpu().numpy()
    write_atomically(run / ROWS, lambda file: np.savez_compressed(file, **arrays))


def kept_rows(run: str | os.PathLike[str], described: dict[str, Any]) -> Dataset:
    """The dataset of ``keep_rows``.

    Args:
        run: the folder.
        described: what the run's configuration says of its data.

    Raises:
        ValueError: the file is damaged.
    """
    dataset = read_npz(Path(run) / ROWS)
    support, _, made = str(described.get("space", dataset.test.space)).partition(" (")
    space = Space(support, made.removesuffix(")"))
    splits = {part: replace(getattr(dataset, part), space=space) for part in ("train", "valid", "test")}
    columns = Columns.of_dict(described["columns"]) if "columns" in described else None
    return replace(dataset, name=described.get("name", dataset.name), columns=columns, **splits)
