"""Tables: columns with names and types as numbers, and numbers as such columns again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from .bits import nearer_bits

UNLABELLED = -1
"""The label of a row without one, as in scikit-learn."""

KINDS = ("real", "whole", "boolean", "text")
"""The types of columns: real numbers, whole numbers, booleans, and texts, of which every one is a column of zeros and ones."""

LEVELS = 100
"""The most different texts of a column."""


class Field(NamedTuple):
    """A column as it was read.

    Attributes:
        name: its name.
        kind: one of ``KINDS``.
        values: numbers, NaN where one is missing; of texts an array of objects, None where one is missing.
        levels: the texts that may occur, where the table states them.
    """

    name: str
    kind: str
    values: np.ndarray
    levels: tuple[str, ...] = ()


class Column(NamedTuple):
    """The name and the type of a column, and its texts in order if it has texts."""

    name: str
    kind: str
    levels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many columns of numbers it makes."""
        return len(self.levels) if self.kind == "text" else 1


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Args:
        columns: name and type of each, without that of labels.
        named: whether the names are the table's own.
        label: the column with the labels, whose ``levels`` are the classes in order; None without labels.
        place: how many columns of the table stand before that of labels; None if all do.

    >>> fields = [Field("size", "whole", np.array([3.0, 5, 4])), Field("kind", "text", np.array(["a", "b", "a"], dtype=object))]
    >>> columns = Columns.of(fields, True, "toy")
    >>> columns.code(fields, True, "toy")[0]
    array([[3., 1., 0.],
           [5., 0., 1.],
           [4., 1., 0.]])
    >>> columns.values(np.array([[4.2, 0.3, 0.6]]))
    {'size': [4], 'kind': ['b']}
    """

    columns: tuple[Column, ...]
    named: bool = True
    label: Column | None = None
    place: int | None = None

    @classmethod
    def plain(cls, width: int) -> Self:
        """So many columns of real numbers without names."""
        return cls(tuple(Column(f"column {number + 1}", "real") for number in range(width)), named=False)

    @classmethod
    def of(cls, fields: list[Field], named: bool, where: str, labels: str | None = None) -> Self:
        """The columns of a table that was read.

        Args:
            fields: the table.
            named: whether it has names of its own.
            where: the table in messages.
            labels: the name of the column that holds labels.

        Raises:
            ValueError: no column of labels of that name, names that occur twice, a column with too many different texts.
        """
        names = [field.name for field in fields]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{where} has two columns called {twice[0]!r}; expected a name for each: rename one")
        if labels is not None and labels not in names:
            raise ValueError(f"{where} has no column {labels!r} for the labels; its columns are {_listed(names)}")
        made = {
            field.name: Column(field.name, field.kind, _levels(field, where, field.name == labels)) for field in fields
        }
        label = None if labels is None else made.pop(labels)
        if not fields:
            raise ValueError(f"{where} has no rows; expected lines of values")
        if not made:
            raise ValueError(f"{where} has no columns but that of the labels; expected at least one more")
        place = None if label is None or names[-1] == labels else names.index(label.name)
        return cls(tuple(made.values()), named, label, place)

    @property
    def ordered(self) -> tuple[Column, ...]:
        """All columns, that of labels among them, in the order of the table."""
        place = len(self.columns) if self.place is None else self.place
        return (*self.columns[:place], *([] if self.label is None else [self.label]), *self.columns[place:])

    @property
    def width(self) -> int:
        """The number of columns of numbers."""
        return sum(column.width for column in self.columns)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The name of the table's column behind every column of numbers."""
        return tuple(column.name for column in self.columns for _ in range(column.width))

    def code(self, fields: list[Field], named: bool, where: str) -> tuple[np.ndarray, np.ndarray | None]:
        """A table with these columns as numbers, ``rows x width``, NaN where a value is missing; and its labels, if it has them.

        Columns are found by their names if this and the table have names, in any order; else by their places.

        Raises:
            ValueError: other columns, a text that the column does not have, or texts where numbers were.
        """
        wanted = self.ordered
        if self.named and named:
            found = {field.name: field for field in fields}
            if strange := [name for name in found if name not in {column.name for column in wanted}]:
                raise ValueError(
                    f"{where} has a column {strange[0]!r}, which is not one of {_listed([c.name for c in wanted])}; leave it out"
                )
            if lacking := [column.name for column in self.columns if column.name not in found]:
                raise ValueError(f"{where} has no column {lacking[0]!r}; its columns are {_listed([*found])}")
        else:
            places = self.columns if len(fields) == len(self.columns) else wanted
            if len(fields) != len(places):
                raise ValueError(f"{where} has {len(fields)} columns; expected {len(self.columns)}")
            found = {column.name: field for column, field in zip(places, fields, strict=True)}
        coded = np.concatenate([_coded(column, found[column.name], where) for column in self.columns], 1)
        if self.label is None or self.label.name not in found:
            return coded, None
        numbers = _coded(Column(self.label.name, "text", self.label.levels), found[self.label.name], where)
        known = ~np.isnan(numbers).any(1)
        return coded, np.where(known, np.nan_to_num(numbers).argmax(1), UNLABELLED)

    def values(self, rows: np.ndarray, labels: np.ndarray | None = None) -> dict[str, list[Any]]:
        """Rows of numbers as columns by name in the table's order, each value of its column's type, None where it is NaN.

        A whole number is the nearest one, a boolean is true from one half on, and a text is the one with the largest number.

        Args:
            rows: ``rows x width``.
            labels: classes, which become the column of labels; ``UNLABELLED`` where there is none.

        Raises:
            ValueError: rows of another width.
        """
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ValueError(f"rows of shape {rows.shape} do not fit the table's {self.width} columns of numbers")
        found, at = dict[str, list[Any]](), 0
        for column in self.columns:
            found[column.name] = _decoded(column, rows[:, at : at + column.width])
            at += column.width
        if labels is not None and self.label is not None:
            classes = [_of_text(level, self.label.kind) for level in self.label.levels]
            found[self.label.name] = [None if n == UNLABELLED else classes[n] for n in labels]
        return {column.name: found[column.name] for column in self.ordered if column.name in found}

    def kinds(self) -> dict[str, str]:
        """The type of every column, that of labels among them."""
        return {column.name: column.kind for column in self.ordered}

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {
            "columns": [_as_dict(column) for column in self.columns], "named": self.named,
            "label": None if self.label is None else _as_dict(self.label),
            **({} if self.place is None else {"place": self.place}),
        }  # fmt: skip

    @classmethod
    def of_dict(cls, content: Any) -> Self:
        """What ``as_dict`` made.

        Raises:
            ValueError: it is something else.
        """
        try:
            label = content["label"]
            columns = tuple(_of_dict(column) for column in content["columns"])
            place = content.get("place")
            if place is not None and not (type(place) is int and 0 <= place <= len(columns)):
                raise ValueError(f"place {place!r}")
            return cls(columns, bool(content["named"]), None if label is None else _of_dict(label), place)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the columns of a table are stated wrongly ({error!r}); restore the file") from None


def _as_dict(column: Column) -> dict[str, Any]:
    return {"name": column.name, "kind": column.kind, **({"levels": list(column.levels)} if column.levels else {})}


def _of_dict(content: dict[str, Any]) -> Column:
    column = Column(str(content["name"]), content["kind"], tuple(map(str, content.get("levels", ()))))
    if column.kind not in KINDS:
        raise ValueError(f"kind {column.kind!r}")
    return column


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:10])) + (" …" if len(names) > 10 else "")


def _texts(field: Field, where: str) -> list[str | None]:
    """The values of a column as texts, whole numbers without a point."""
    if field.kind == "text":
        return [None if value is None else str(value) for value in field.values]
    if np.isinf(field.values).any():
        raise ValueError(
            f"{where}: column {field.name!r}, whose values are labels or texts, has an infinite value, first in row "
            f"{int(np.argmax(np.isinf(field.values)))}; expected a finite one, or nothing where it is missing"
        )
    return [None if np.isnan(v) else str(int(v)) if v == np.rint(v) else repr(float(v)) for v in field.values]


def _of_text(text: str, kind: str) -> Any:
    """The value of a column's type that a text stands for."""
    if kind == "text":
        return text
    return float(text) if kind == "real" else float(text) == 1 if kind == "boolean" else int(float(text))


def _levels(field: Field, where: str, label: bool) -> tuple[str, ...]:
    """The texts of a column, or the classes of one with labels, in order."""
    if field.kind != "text" and not label:
        return ()
    known = [text for text in _texts(field, where) if text is not None]
    if field.kind != "text":
        return tuple(sorted(set(known), key=float))
    levels = field.levels or tuple(sorted(set(known)))
    if len(levels) > LEVELS or (len(levels) == len(known) and not label and not field.levels):
        raise ValueError(
            f"{where}: column {field.name!r} holds {len(levels)} different texts in {len(field.values)} rows, which are names "
            f"rather than values (at most {LEVELS} are coded, each by a column of zeros and ones); leave the column out"
        )
    return levels


def _coded(column: Column, field: Field, where: str) -> np.ndarray:
    """A column as numbers, ``rows x width``."""
    if column.kind != "text":
        if field.kind == "text":
            raise ValueError(
                f"{where}: column {field.name!r} holds texts; expected numbers, as the run's rows have there"
            )
        return np.asarray(field.values, dtype=np.float64)[:, None]
    place = {level: number for number, level in enumerate(column.levels)}
    texts = _texts(field, where)
    if strange := [text for text in texts if text is not None and text not in place]:
        raise ValueError(
            f"{where}: column {field.name!r} holds {strange[0][:40]!r}; expected one of {_listed([*column.levels])}, or nothing"
        )
    coded = np.full((len(texts), len(place)), np.nan)
    for row, text in enumerate(texts):
        if text is not None:
            coded[row] = 0
            coded[row, place[text]] = 1
    return coded


def _decoded(column: Column, numbers: np.ndarray) -> list[Any]:
    """Numbers, ``rows x width``, as values of a column."""
    missing = np.isnan(numbers).any(1)
    if column.kind == "text":
        best = np.nan_to_num(numbers).argmax(1)
        return [None if gone else column.levels[n] for gone, n in zip(missing, best, strict=True)]
    values = numbers[:, 0]
    if column.kind == "boolean":
        bits = nearer_bits(torch.tensor(values)).tolist()
        return [None if gone else bool(bit) for gone, bit in zip(missing, bits, strict=True)]
    if column.kind == "whole":
        return [None if gone else round(float(v)) for gone, v in zip(missing, values, strict=True)]
    # The shortest decimals that stand for the number: those of single precision do not grow when written.
    return [None if gone else float(str(v)) for gone, v in zip(missing, values, strict=True)]
