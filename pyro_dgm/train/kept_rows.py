"""The rows of a run whose data came from no file: they are kept in its folder."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..data import Dataset, Space, Split
from ..data.npz import read_npz
from ..data.sources import changed
from ..data.tables import Columns
from ..files import write_atomically

ROWS = "rows.npz"
"""The file in a run's folder."""

LARGEST = 2**28
"""The most bytes of rows that are kept."""


def origin_of(data: Dataset) -> dict[str, Any] | None:
    """Where a run finds its data again: what they were loaded from, else rows in its own folder; None if these are too many.

    Rows in memory are kept as they were before ``load`` changed them and ``labelled`` gave them labels, so that rows of other
    files are changed alike. Where they were changed in another way, ``changed`` has what is known of their space. Rows that are
    drawn anew for every batch in such a way are not kept.
    """
    origin = data.origin or {"binarisation": "none", "seed": 0}
    if isinstance(origin.get("source"), str):
        return origin
    raw = _raw(data)
    if raw.redraw is not None or sum(split.x.nbytes for split in (raw.train, raw.valid, raw.test)) > LARGEST:
        return None
    space = raw.test.space
    stated = {"log_determinant": space.log_determinant, "before": space.before, "ceiling": space.ceiling}
    known = {name: value for name, value in stated.items() if value not in (None, math.inf)}
    unlike = raw.convert is not None and space.support != "binary"
    return origin | {"source": ROWS} | ({"changed": known} if unlike else {})


def _raw(data: Dataset) -> Dataset:
    """The rows in memory of which a dataset was made."""
    source = (data.origin or {}).get("source")
    return source if isinstance(source, Dataset) else data


def keep_rows(run: Path, data: Dataset) -> None:
    """Write the rows of a dataset, as ``origin_of`` says, into a run's folder, in splits and with their labels."""
    arrays: dict[str, Any] = {}
    raw = _raw(data)
    for part in ("train", "valid", "test"):
        split: Split = getattr(raw, part)
        arrays[part] = split.x.detach().cpu().reshape(len(split), *raw.shape).numpy()
        if split.labels is not None and split.labels.ndim == 1:
            arrays[f"{part}_labels"] = split.labels.cpu().numpy()
    write_atomically(run / ROWS, lambda file: np.savez_compressed(file, **arrays))


def kept_rows(run: str | os.PathLike[str], described: dict[str, Any]) -> Dataset:
    """The dataset of ``keep_rows``, binarised or preprocessed as it was, but without label columns.

    Args:
        run: the folder.
        described: what the run's configuration says of its data.

    Raises:
        ValueError: the file is damaged.
    """
    name = str(described.get("name", "rows")).removesuffix(" with labels")
    columns = Columns.of_dict(described["columns"]) if "columns" in described else None
    dataset = replace(read_npz(Path(run) / ROWS), name=name, columns=columns)
    preprocessing, binarisation = described.get("preprocessing"), described.get("binarisation", "none")
    if preprocessing is not None or binarisation != "none":
        how = None if binarisation == "none" else binarisation
        return changed(dataset, how, described.get("seed", 0), preprocessing).from_origin(
            {"source": dataset}
            | {name: described[name] for name in ("binarisation", "seed", "preprocessing") if name in described}
        )
    dataset = dataset.single()
    support, _, made = str(described.get("space", dataset.test.space)).partition(" (")
    space = Space(support, made.removesuffix(")"), **described.get("changed", {}))
    splits = {part: replace(getattr(dataset, part), space=space) for part in ("train", "valid", "test")}
    return replace(dataset, convert=unknown_change if "changed" in described else None, **splits)


def unknown_change(x: Tensor) -> Tensor:
    """Refuse rows of other files where it is not known how the run's came to be."""
    raise ValueError(
        "the run was trained from Python on rows that were preprocessed there, and it is not known how to change these alike; "
        "train on what load(..., preprocessing=...) gives, unchanged, or evaluate such rows from Python"
    )
