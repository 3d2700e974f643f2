"""Files of comma-separated values as columns with names and types."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Collection
from typing import IO

import numpy as np

from .reading import regular
from .tables import Field

BOOLEANS = {"true": 1.0, "false": 0.0}
"""The words of booleans, in any case."""

Words = dict[int, dict[int, str]]
"""What is no number in a file: by column and then by row."""


def read_table(path: str | os.PathLike[str], known: Collection[str] = ()) -> tuple[list[Field], bool]:
    """The columns of a csv file, and whether its first line has their names; empty fields, "nan" and "na" are missing values.

    A column holds booleans if all its fields are true or false, and texts if none is a number. The first line holds names if
    none of its fields is a number, or if one is a word above numbers. Numbers are names if they are 0, 1, …, as pandas names the
    columns of an array, where two columns or one could not as well be whole numbers; or if they are those that are known.

    Args:
        path: the file.
        known: the names that the columns have elsewhere, that of labels among them.

    Raises:
        ValueError: a word in a column of numbers, lines of unlike lengths, or a column without a name beside some with names; the
            message gives the line.
    """
    file = regular(path)
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            rows, words, lines, top = _scanned(stream)
        named = _has_names(top[:1], rows, words) or _has_numbers_for_names(top, rows, words, known)
        start = int(named)
        if named and not all(name.strip() for name in top[0]):
            raise ValueError(
                f"line {lines[0]} has no name for column {[bool(name.strip()) for name in top[0]].index(False) + 1}; expected a "
                "name for each: if the column is the index of a data frame, write the file with to_csv(path, index=False)"
            )
        names = [name.strip() for name in top[0]] if named else [f"column {n + 1}" for n in range(rows.shape[1])]
        pointed = [not text.strip().lstrip("+-").isdecimal() for text in top[start]] if len(top) > start else []
        fields = []
        for place, name in enumerate(names):
            found = {row: word for row, word in words.get(place, {}).items() if row >= start}
            fields.append(_field(name, rows[start:, place], found, lines, start, bool(pointed and pointed[place])))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file} cannot be read as a csv file ({error})") from None
    return fields, named


def _scanned(stream: IO[str]) -> tuple[np.ndarray, Words, list[int], list[list[str]]]:
    """Numbers, NaN where there is none; words; the rows' lines in the file; and the first two rows as they stand there."""
    rows: list[np.ndarray] = []
    words: Words = {}
    lines: list[int] = []
    top: list[list[str]] = []
    for line, fields in enumerate(csv.reader(stream, strict=True), start=1):
        if not fields:
            continue
        if top and len(fields) != len(top[0]):
            raise ValueError(f"line {line} has {len(fields)} fields, the first {len(top[0])}{_other_separator(top[0])}")
        try:
            row = [float(field) for field in fields]
            exact = "_" not in "".join(fields)
        except ValueError:
            exact = False
        if not exact:
            row = [_number(field) for field in fields]
            for place, number in enumerate(row):
                if math.isnan(number) and fields[place].strip().lower() not in ("", "na", "nan"):
                    words.setdefault(place, {})[len(rows)] = fields[place].strip()
        top += [fields] * (len(top) < 2)
        rows.append(np.array(row))
        lines.append(line)
    if len(top) == 2 and all(map(_other_separator, top)) and top[0][0].count(";") == top[1][0].count(";"):
        raise ValueError(f"every line has one field{_other_separator(top[0])}")
    return np.array(rows).reshape(len(rows), -1 if rows else 0), words, lines, top


def _other_separator(first: list[str]) -> str:
    """Words on a first line of one field that would be several with another separator."""
    for separator, name in ((";", "semicolons"), ("\t", "tabulators")):
        if len(first) == 1 and separator in first[0]:
            return f"; it has {name}: separate fields by commas, and write decimals with a point"
    return ""


def _number(text: str) -> float:
    """The number of a field, NaN if it is none; Python's own notation 1_000 is none."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _has_names(first: list[list[str]], rows: np.ndarray, words: Words) -> bool:
    """Whether the first line holds the names of columns."""
    above = [place for place, found in words.items() if 0 in found]
    if len(above) == sum(bool(text.strip()) for line in first for text in line):
        return bool(above)
    return any(len(words[place]) == 1 and not np.isnan(rows[1:, place]).all() for place in above)


def _has_numbers_for_names(top: list[list[str]], rows: np.ndarray, words: Words, known: Collection[str]) -> bool:
    """Whether numbers in the first line are the names of columns."""
    first = [name.strip() for name in top[0]] if top else []
    if len(first) > 1 and set(first) <= set(known) and len(set(first)) == len(first) >= len(known) - 1:
        return True
    below, index = rows[1:], bool(first) and not first[0] and np.array_equal(rows[1:, 0], np.arange(len(rows) - 1))
    if not len(below) or first[index:] != [str(number) for number in range(len(first) - index)]:
        return False
    whole = bool((below == np.rint(below)).all()) and not any(words.values())
    return bool(index) or len(first) > 2 or not whole


def _field(name: str, numbers: np.ndarray, words: dict[int, str], lines: list[int], start: int, pointed: bool) -> Field:
    """One column, with what is no number in it; ``pointed`` tells that its first field is not written as a whole number."""
    if not words:
        known = numbers[~np.isnan(numbers)]
        whole = len(known) > 0 and bool((known == np.rint(known)).all()) and not (pointed and not np.isnan(numbers[0]))
        return Field(name, "whole" if whole else "real", numbers)
    if not np.isnan(numbers).all():
        row, word = next(iter(words.items()))
        raise ValueError(f"line {lines[row]}: {word[:40]!r} in column {name!r}, where other lines have numbers")
    found = [words.get(row) for row in range(start, start + len(numbers))]
    if {word.lower() for word in words.values()} <= set(BOOLEANS):
        return Field(name, "boolean", np.array([math.nan if w is None else BOOLEANS[w.lower()] for w in found]))
    if all(re.fullmatch(r"[+-]?[\d.]*\d,\d+(e[+-]?\d+)?", word, re.IGNORECASE) for word in words.values()):
        row, word = next(iter(words.items()))
        raise ValueError(
            f"line {lines[row]}: column {name!r} has numbers with commas, {word!r}; write decimals with a point"
        )
    return Field(name, "text", np.array(found, dtype=object))
