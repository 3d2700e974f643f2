"""Rows of data in three splits, and their batches."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from ..checks import check_count, check_memory, described
from .precision import in_precision
from .space import Space
from .stored import StoredRows, row_by_row
from .streams import stream
from .tables import UNLABELLED, Columns

SIZES = ("shape", "features")
"""The names of what data may tell of a row's parts."""


@dataclass(frozen=True, eq=False)
class Split:
    """Rows `x` (N×D) with their space, and labels if they have any.

    Args:
        x: a floating-point tensor of N rows and D columns.
        space: the space of the rows.
        labels: a tensor whose first axis has length N, or None.

    Raises:
        ValueError: if `x` is not a floating-point matrix or `labels` has another length.

    >>> split = Split(torch.eye(3), Space("binary"), torch.arange(3))
    >>> len(split), split[1:].labels
    (3, tensor([1, 2]))
    """

    x: Tensor
    space: Space
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or not self.x.is_floating_point():
            raise ValueError(
                f"Split got x of shape {tuple(self.x.shape)} and {self.x.dtype}; expected a floating-point "
                "N×D matrix: flatten pictures with x.flatten(1) and convert with x.float()."
            )
        object.__setattr__(self, "x", row_by_row(self.x))
        if self.labels is not None and (self.labels.ndim == 0 or len(self.labels) != len(self.x)):
            raise ValueError(
                f"Split got labels of shape {tuple(self.labels.shape)} for {len(self.x)} rows; expected one per row."
            )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice | Tensor) -> "Split":
        """The rows picked by a slice or by a one-dimensional index tensor, as a Split.

        Raises:
            TypeError: if `index` is neither. A single row is `split[i:i + 1]`.
        """
        if not isinstance(index, slice) and not (isinstance(index, Tensor) and index.ndim == 1):
            raise TypeError(
                f"Split got index {index!r}; expected a slice or a 1-D index tensor (a single row is split[i:i + 1])."
            )
        return Split(self.x[index], self.space, None if self.labels is None else self.labels[index])

    def to(self, device_or_dtype: torch.device | torch.dtype | str) -> "Split":
        """The split on another device, or with `x` in another precision (labels keep their type).

        Args:
            device_or_dtype: a device, its name, or a floating-point dtype.
        """
        if isinstance(device_or_dtype, torch.dtype):
            return Split(in_precision(self.x, device_or_dtype, "rows"), self.space, self.labels)
        labels = None if self.labels is None else self.labels.to(device_or_dtype)
        return Split(self.x.to(device_or_dtype), self.space, labels)


def check_dataset(dataset: Any, owner: str) -> None:
    """Refuse what is no dataset.

    Raises:
        ValueError: the message says how to make one.
    """
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"{owner} got {described(dataset)}; expected a Dataset, as dgm.data.load makes it, or Dataset.of_rows of a tensor"
        )


def _redraw_columns(
    redraw: Callable[[Tensor, torch.Generator], Tensor], columns: int, x: Tensor, generator: torch.Generator
) -> Tensor:
    """Redraw the first columns; the others are labels and stay unchanged."""
    return torch.cat([redraw(x[:, :columns], generator), x[:, columns:]], 1)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The training, validation and test rows of a data set.

    Args:
        name: the name in reports and messages.
        train: rows for training.
        valid: rows by which options and epochs are chosen.
        test: rows for the reported figures.
        shape: the shape of one row as a picture, such as (8, 8).
        redraw: a function that draws a fresh batch from a batch of training rows (bits from grey levels, say), or None.
        grey: a function from preprocessed rows to the grey levels that they came from, for pictures; None where there is none.
        convert: a function from rows as they were read to rows like these, None where they are the same.
        restore: a function from rows like these to rows as they were read, None where they are the same or it is not known.
        columns: names and types of the columns of a table, None where the rows come from none.
        features: the number of values of a frame, where rows are padded sequences (``pad``) and it is known.

    Attributes:
        origin: what ``load`` was asked for, if these are its rows, which a run's configuration states; of a data frame, or of
            labelled rows from memory, with the dataset before the change as its ``source``.

    Raises:
        ValueError: if a split is empty or has missing values (NaN) alone, widths differ, a value is infinite, or `shape` does not
            fit.

    >>> split = Split(torch.eye(4), Space("binary"))
    >>> data = Dataset("toy", split, split, split, (2, 2))
    >>> data.visible, [len(x) for x in data.batches(epoch=0, batch_size=3, seed=0)]
    (4, [3, 1])
    """

    name: str
    train: Split
    valid: Split
    test: Split
    shape: tuple[int, ...]
    redraw: Callable[[Tensor, torch.Generator], Tensor] | None = None
    grey: Callable[[Tensor], Tensor] | None = None
    convert: Callable[[Tensor], Tensor] | None = None
    restore: Callable[[Tensor], Tensor] | None = None
    columns: Columns | None = None
    features: int | None = None
    origin: dict[str, Any] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            where = f"Dataset {self.name!r}: split {part!r}"
            if len(split) == 0:
                raise ValueError(f"{where} has no rows; every split needs at least one.")
            if split.x.shape[1] != self.visible:
                raise ValueError(
                    f"{where} has {split.x.shape[1]} columns but 'train' has {self.visible}; give all splits the same."
                )
            if isinstance(split.x, StoredRows):  # whose values were looked at when the file was opened
                continue
            if split.x[:1].isnan().all() and split.x.isnan().all():
                raise ValueError(f"{where} has missing values (NaN) alone; expected rows with known ones")
            infinite = torch.isinf(split.x)
            if infinite.any():
                row = int(infinite.any(1).nonzero()[0])
                raise ValueError(
                    f"{where} has an infinite value, first in row {row}; expected finite values, or NaN where one is missing"
                )
        if math.prod(self.shape) != self.visible or any(side < 1 for side in self.shape):
            raise ValueError(
                f"Dataset {self.name!r}: shape {self.shape} has product {math.prod(self.shape)} but rows have "
                f"{self.visible} columns; give a shape such as ({self.visible},)."
            )

    @classmethod
    def of_rows(cls, rows: Tensor | Split) -> Self:
        """Rows without splits, of which the last tenth is held out for validation (and stands for test rows).

        Raises:
            ValueError: fewer than two rows.
        """
        split = rows if isinstance(rows, Split) else Split(rows, Space("not stated"))
        if len(split) < 2:
            raise ValueError(f"data got {len(split)} rows; expected at least 2 (a tenth is held out for validation)")
        held_out = max(len(split) // 10, 1)
        valid = split[-held_out:]
        return cls("rows", split[:-held_out], valid, valid, (split.x.shape[1],))

    def single(self) -> Self:
        """The same rows in single precision, as models are trained on them."""
        if all(split.x.dtype == torch.float32 for split in (self.train, self.valid, self.test)):
            return self
        names = None if self.columns is None else self.columns.numbers
        told = in_precision(self.train.x, torch.float32, self.name, names)
        valid, test = (replace(split, x=split.x.to(torch.float32)) for split in (self.valid, self.test))
        return replace(self, train=replace(self.train, x=told), valid=valid, test=test)

    @property
    def visible(self) -> int:
        """The number of columns, D."""
        return self.train.x.shape[1]

    @property
    def sizes(self) -> dict[str, Any]:
        """What the data tell of a row's parts, some of ``SIZES``, by the names of models' options.

        They are the ``shape`` of pictures, and the ``features`` of a frame, where rows of two axes are taken for frames x (values
        and their mark of existence).

        >>> split = Split(torch.eye(12), Space("binary"))
        >>> Dataset("toy", split, split, split, (3, 4)).sizes
        {'shape': [3, 4], 'features': 3}
        """
        shape = {"shape": [*self.shape]} if len(self.shape) > 1 else {}
        features = self.shape[1] - 1 if self.features is None and len(self.shape) == 2 else self.features
        return shape | ({"features": features} if features else {})

    def with_validation_in_training(self) -> "Dataset":
        """The same data with the validation rows added to the training rows, for use once all choices are made.

        They stay in ``valid`` too, so that figures on ``valid`` are then training figures.
        """
        labels = None
        if self.train.labels is not None and self.valid.labels is not None:
            labels = torch.cat([self.train.labels, self.valid.labels])
        train = Split(torch.cat([self.train.x, self.valid.x]), self.train.space, labels)
        return replace(self, train=train)

    def labelled(self, classes: int) -> "Dataset":
        """The same data with the label of every row appended as ``classes`` one-hot columns, NaN for a row without label.

        Raises:
            ValueError: a split has no labels, or one that is neither ``UNLABELLED`` (-1) nor 0 to ``classes`` - 1; more classes
                than memory holds.
        """
        classes = check_count("classes", classes, what="the number of classes")
        check_memory({"classes": classes}, self.visible, "labelled")

        def joined(split: Split) -> Split:
            if split.labels is None or not ((split.labels >= UNLABELLED) & (split.labels < classes)).all():
                raise ValueError(
                    f"labelled({classes}) needs labels 0 to {classes - 1} for every row of {self.name!r}, or {UNLABELLED} for "
                    "a row without"
                )
            label = torch.nn.functional.one_hot(split.labels.long().clamp_min(0), classes).to(split.x)
            label[split.labels == UNLABELLED] = math.nan
            return Split(torch.cat([split.x, label], 1), split.space, split.labels)

        train, valid, test = joined(self.train), joined(self.valid), joined(self.test)
        redraw = None if self.redraw is None else partial(_redraw_columns, self.redraw, self.visible)
        made = Dataset(
            f"{self.name} with labels", train, valid, test, (train.x.shape[1],), redraw, self.grey, self.convert, self.restore,
            self.columns,
        )  # fmt: skip
        origin = self.origin or {"source": self, "binarisation": "none", "seed": 0}
        return made.from_origin(origin | {"classes": classes})

    def from_origin(self, origin: dict[str, Any]) -> Self:
        """This dataset, which now states where it came from; other rows made of it do not."""
        object.__setattr__(self, "origin", origin)
        return self

    def batches(self, epoch: int, batch_size: int, seed: int, start: int = 0) -> Iterator[Tensor]:
        """Training batches of one epoch; the last one may be smaller.

        The order depends on (seed, epoch) alone, and a redrawn batch on (seed, epoch, batch index) alone. With `start`
        the batches are therefore exactly the last ones of the full epoch.

        Args:
            epoch: the number of the epoch, from 0.
            batch_size: rows per batch.
            seed: the seed of the order and of redraws.
            start: the number of batches that are skipped.

        Raises:
            ValueError: if an argument is out of range.
        """
        batch_size = check_count("batches: batch_size", batch_size, what="the rows in a batch")
        epoch = check_count("batches: epoch", epoch, 0)
        count = math.ceil(len(self.train) / batch_size)
        if not 0 <= start <= count:
            raise ValueError(f"batches got start={start}; an epoch has {count} batches, so expected 0 to {count}.")
        return self._iterate(epoch, batch_size, seed, range(start, count))

    def _iterate(self, epoch: int, batch_size: int, seed: int, indices: range) -> Iterator[Tensor]:
        order = torch.randperm(len(self.train), generator=stream("order", seed, epoch)).to(self.train.x.device)
        for index in indices:
            x = self.train.x[order[index * batch_size : (index + 1) * batch_size]]
            yield x if self.redraw is None else self.redraw(x, stream("redraw", seed, epoch, index))
