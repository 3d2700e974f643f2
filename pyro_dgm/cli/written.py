"""Rows of a model as files of the kind that the run's data were read from."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import warnings
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..data import names
from ..data.frames import frame_of
from ..data.tables import UNLABELLED, Columns
from ..extras import need
from ..files import write_atomically
from ..train.kept_rows import unknown_change
from .runs import Opened

Places = dict[str, list[Any]]
"""Columns that say which row a row is, of which split, and which draw of it, or how strange it is."""


MADE_BY = "pyro_dgm"
"""What pictures that are written here state as their software: only such are ever deleted."""

NUMBERED = re.compile(r"(row\d{4,}-draw\d{4,}|\d{4,})\.png")
"""How their files are called."""


NEEDED = {"parquet": "tables", "png": "pictures"}
"""The extras that formats need."""


def also(path: Path | None) -> str:
    """The end of a sentence that tells where rows were written."""
    return "" if path is None else f" and {path}"


def check_place(opened: Opened, stem: str, form: str | None = None) -> None:
    """Refuse, before any work, to write rows where something else is.

    Args:
        opened: the run.
        stem: as for ``write_rows``.
        form: as for ``write_rows``.

    Raises:
        ValueError: the run's own data are there; pictures would replace a folder that holds anything but pictures of a command.
        MissingExtra: the format's packages are not installed.
    """
    form = form or _form(opened)
    if form in NEEDED:
        need(f"--format {form}", NEEDED[form])
    target = opened.folder / (stem if form == "png" else f"{stem}.{form}")
    data = None if str(opened.source) in names() else opened.source.resolve()
    for path in (opened.folder / f"{stem}.npz", target):
        if path.resolve() == data:
            raise ValueError(
                f"{path} holds the run's data, which the result would replace; choose another folder with --out"
            )
    if form == "png":
        _check_pictures(target)


def _check_pictures(folder: Path) -> None:
    """Refuse a folder of pictures that were not written here."""
    if not folder.is_symlink() and (not folder.exists() or (folder.is_dir() and all(map(_is_ours, folder.iterdir())))):
        return
    raise ValueError(
        f"{folder} is in the way of the pictures: it was not written by this command, or something was added to it or changed; "
        "move it away, or choose another folder with --out or another --format"
    )


def _is_ours(path: Path) -> bool:
    """Whether a file is a picture that was written here."""
    from PIL import Image

    if path.is_symlink() or not path.is_file() or NUMBERED.fullmatch(path.name) is None:
        return False
    try:
        with Image.open(path) as picture:
            return picture.info.get("Software") == MADE_BY
    except OSError:
        return False


def write_rows(
    opened: Opened,
    stem: str,
    rows: Tensor,
    form: str | None = None,
    places: Places | None = None,
    labels: Tensor | None = None,
) -> Path | None:
    """Write rows in the units, with the columns and in the format of the run's data, or in another format.

    A table has the column of labels too. Where they are neither a part of the rows nor given it is empty, which is said.

    Args:
        opened: the run.
        stem: the name of the file, or of the folder of pictures, without its ending.
        rows: rows as the model has them, with labels if the run has classes.
        form: the format; by default the one that the run's data were read from, nothing for npz files and named data sets.
        places: columns to begin with, where rows belong to others; one that the table has already gets an underscore.
        labels: the classes of the rows, where they are known and no part of them.

    Raises:
        ValueError: rows that are no pictures, as pictures.
    """
    if opened.dataset.convert is unknown_change:
        warnings.warn("rows are written in the model's units: how to undo the preprocessing is not known", stacklevel=2)
    form = form or _form(opened)
    if form is None:
        return None
    pixels = opened.pixels(rows)
    if form == "png":
        return _write_pictures(opened, opened.folder / stem, pixels, places or {})
    restored = (pixels if opened.dataset.restore is None else opened.dataset.restore(pixels)).detach().numpy()
    path = opened.folder / f"{stem}.{form}"
    if form == "npy":
        shaped = (
            restored.reshape(len(restored), *opened.shape) if restored[0].size == np.prod(opened.shape) else restored
        )
        write_atomically(path, lambda file: np.save(file, shaped))
        return path
    columns = opened.dataset.columns or Columns.plain(restored.shape[1])
    own = columns.values(restored, _classes(opened, columns, rows, labels))
    values = {_free(name, own): numbers for name, numbers in (places or {}).items()} | own
    WRITERS[form](path, columns, values)
    return path


def _classes(opened: Opened, columns: Columns, rows: Tensor, given: Tensor | None) -> np.ndarray | None:
    """The classes in the table's column of labels; None if it has no such column."""
    if columns.label is None:
        return None
    if opened.classes:
        label = rows[:, -opened.classes :].cpu()
        return np.where(label.isnan().any(1), UNLABELLED, label.nan_to_num().argmax(1).numpy())
    count = len(columns.label.levels)
    if given is None:
        warnings.warn(
            f"the column {columns.label.name!r} of labels is empty, since the model has no labels; one that was trained with "
            f"--classes {count} fills it in",
            stacklevel=3,
        )
        return np.full(len(rows), UNLABELLED)
    return np.where((given >= 0) & (given < count), given, UNLABELLED)


def write_places(opened: Opened, stem: str, places: Places) -> Path:
    """Write what is known of rows, without the rows themselves, as a csv file."""
    path = opened.folder / f"{stem}.csv"
    _write_csv(path, Columns(()), places)
    return path


def _free(name: str, taken: Container[str]) -> str:
    """The name, with as many underscores as make it another than those of the table's own columns."""
    return name if name not in taken else _free(f"{name}_", taken)


def table_form(opened: Opened) -> str | None:
    """The format of the run's data if it is one of tables, else None."""
    form = _form(opened)
    return form if form in WRITERS else None


def _form(opened: Opened) -> str | None:
    """The format of the run's data."""
    if opened.source.suffix in (".npy", ".csv", ".parquet"):
        return opened.source.suffix[1:]
    if str(opened.source) not in names() and opened.source.is_dir():
        return "png"
    return None if opened.dataset.columns is None else "csv"


def _write_csv(path: Path, columns: Columns, values: dict[str, list[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if columns.named or len(values) > len(columns.kinds()):
        writer.writerow(values)
    writer.writerows(zip(*values.values(), strict=True))
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _write_parquet(path: Path, columns: Columns, values: dict[str, list[Any]]) -> None:
    content = io.BytesIO()
    frame_of(columns, values).to_parquet(content)
    write_atomically(path, lambda file: file.write(content.getvalue()))


WRITERS: dict[str, Callable[[Path, Columns, dict[str, list[Any]]], None]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
}


def _write_pictures(opened: Opened, folder: Path, pixels: Tensor, places: Places) -> Path:
    """A folder of PNG files, in place of one that was written before.

    Raises:
        ValueError: rows that are no pictures; something else is there.
    """
    if not opened.is_picture:
        raise ValueError(f"rows of shape {opened.shape} are no pictures; choose another --format than png")
    from PIL.Image import fromarray
    from PIL.PngImagePlugin import PngInfo

    levels = (opened.grey(pixels).nan_to_num() * 255).round().numpy().astype(np.uint8).reshape(-1, *opened.shape)
    if len(opened.shape) == 3:
        levels = np.moveaxis(levels, 1, -1) if opened.shape[0] in (1, 3) else levels
        levels = levels[..., 0] if levels.shape[-1] == 1 else levels
    stated = PngInfo()
    stated.add_text("Software", MADE_BY)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        for number, picture in enumerate(levels):
            name = "-".join(f"{what}{values[number]:04d}" for what, values in places.items()) or f"{number:04d}"
            fromarray(picture).save(draft / f"{name}.png", pnginfo=stated)
        _check_pictures(folder)
        if folder.exists():
            for path in [*folder.iterdir()]:
                path.unlink()
            folder.rmdir()
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
