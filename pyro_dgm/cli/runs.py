"""A run's folder as the commands see it: model, data, labels, pictures, and the folder that they write to."""

from __future__ import annotations

import functools
import os
import tempfile
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import data, processes, train
from ..data import Dataset, Split
from ..data.stored import spread_rows
from ..files import write_atomically
from ..train.checkpoint import read_config
from ..train.devices import check_devices
from ..train.kept_rows import ROWS, kept_rows


@dataclass
class Opened:
    """A run that a command works on.

    Attributes:
        model: the trained model.
        dataset: the data that it was trained on, with labels as its last columns where it has classes.
        classes: the number of classes, 0 without labels.
        shape: the shape of a row without its label, as a picture where it has two dimensions or more.
        folder: the folder that the command writes to: the run's or ``--out``; a scratch folder but in the first process.
        source: the path of the data, or their name.
    """

    model: Any
    dataset: Dataset
    classes: int
    shape: tuple[int, ...]
    folder: Path
    source: Path

    def pixels(self, rows: Tensor) -> Tensor:
        """Rows on the processor, without their labels."""
        return rows[:, : rows.shape[1] - self.classes].cpu()

    def converted(self, rows: Tensor, name: str) -> Tensor:
        """Rows without labels as they were read, which become what the run's rows became, in their precision; NaN stays where it
        can.

        Raises:
            ValueError: rows of another width, or values that cannot be converted.
        """
        wide = self.dataset.visible - self.classes
        convert = self.dataset.convert
        if convert is None and rows.shape[1] != wide:
            raise ValueError(f"{name} has rows of {rows.shape[1]} columns; those of the run have {wide}")
        try:
            made = rows if convert is None else convert(rows)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{name}: {error}") from None
        if made.shape[1] != wide:
            raise ValueError(f"{name} has rows of {made.shape[1]} columns; those of the run have {wide}")
        return made.to(self.dataset.test.x.dtype)

    def check_known(self, name: str, x: Tensor, known: Tensor) -> None:
        """Refuse known values in rows of a file that no row of the run's data could have: the model's check of data fails.

        Unknown values take those of a row of the run.
        """
        like = self.dataset.test.x[:1].to(x).expand(x.shape)
        filled = torch.where(known, x, like)
        if self.classes:
            label = known[:, -self.classes :].all(1, keepdim=True)
            filled[:, -self.classes :] = torch.where(label, x, like)[:, -self.classes :]
        try:
            self.model.check_data(filled)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def known(self, columns: Tensor) -> Tensor:
        """Booleans of the columns of a row with its label, which is known, from those without."""
        label = columns.new_ones((*columns.shape[:-1], self.classes))
        return torch.cat([columns, label], -1)

    @property
    def is_picture(self) -> bool:
        """Whether rows can be shown as pictures."""
        return len(self.shape) == 2 or (len(self.shape) == 3 and (self.shape[0] in (1, 3) or self.shape[2] in (1, 3)))

    def grey(self, rows: Tensor) -> Tensor:
        """Rows without labels as pictures in [0, 1]: with the preprocessing undone, or scaled by the range of test rows."""
        if self.dataset.grey is not None:
            return self.dataset.grey(rows.cpu()).clamp(0, 1)
        like = self.pixels(spread_rows(self.dataset.test.x)).nan_to_num()
        low, high = min(float(like.min()), 0.0), max(float(like.max()), 1.0)
        return ((rows.cpu() - low) / (high - low)).clamp(0, 1)


def load(source: dict[str, Any], data_dir: str | None, run: str | None = None) -> tuple[Dataset, tuple[int, ...]]:
    """The dataset that a run's configuration describes under ``data``, and the shape of its rows without labels."""
    if run is not None and source["source"] == ROWS:
        dataset = kept_rows(run, source)
    else:
        dataset = data.load(
            source["source"],
            data_dir=data_dir,
            binarisation=_named(source["binarisation"]),
            seed=source["seed"],
            preprocessing=source.get("preprocessing"),
            labels=source.get("labels"),
        )
    return _labelled(dataset, source), dataset.shape


def _named(binarisation: str) -> str | None:
    return None if binarisation == "none" else binarisation


def _labelled(dataset: Dataset, source: dict[str, Any]) -> Dataset:
    return dataset.labelled(source["classes"]) if "classes" in source else dataset


def open_run(options: Namespace) -> Opened:
    """A run's model and dataset; seeds the random state."""
    import pyro

    check_devices(options.device, None)
    source = described(options.run)
    dataset, shape = load(source, options.data_dir, options.run)
    processes.join(options.device)
    model = train.load(options.run, options.device, options.model)
    pyro.set_rng_seed(options.seed)
    folder = getattr(options, "out", None) or Path(options.run)
    if processes.first():
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK) and options.command != "evaluate":
            raise ValueError(f"{folder} cannot be written to; choose another folder with --out, or change its rights")
    else:
        folder = scratch()
    return Opened(model, dataset, source.get("classes", 0), shape, folder, Path(source["source"]))


def described(run: str) -> dict[str, Any]:
    """What a run's configuration says about its data.

    Raises:
        ValueError: it does not say where the data came from.
    """
    source = read_config(run).get("data", {})
    if missing := [name for name in ("source", "binarisation", "seed") if name not in source]:
        raise ValueError(
            f"{run} does not say where its data came from (data has no {missing[0]!r}); evaluate it from Python with dgm.load"
        )
    return source


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def scratch() -> Path:
    """A folder that is deleted when the process ends."""
    return Path(_temporary().name)


def other_rows(name: str, options: Namespace, opened: Opened) -> Split:
    """The rows of ``--data``, converted as those of the run were.

    A dataset, or an npz file of splits, gives the rows of ``--split``; an npz file of an array ``x``, a table, a npy file and a
    folder of pictures give all theirs. Preprocessing is that of the run's training rows; grey levels become bits as the run's
    did, and bits stay.

    Raises:
        ValueError: rows that do not fit the run's.
    """
    given = data.read_rows(name, options.split, options.data_dir, opened.dataset.columns)
    x = opened.converted(given.x, name)
    space = opened.dataset.test.space
    same = opened.dataset.convert is None or (space.support == "binary" and given.space.support == "binary")
    split = Split(x, given.space if same else space, given.labels)
    if not opened.classes:
        return split
    if given.labels is None:
        raise ValueError(
            f"{name} has no labels, which the run's rows have; give an npz file with the array test_labels, or a table with the "
            "column of labels"
        )
    return Dataset(name, split, split, split, (x.shape[1],)).labelled(opened.classes).test


def write_npz(path: Path, **arrays: Any) -> None:
    """Write arrays beside the file, which they then replace; a link is replaced and not followed."""
    import numpy as np

    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
