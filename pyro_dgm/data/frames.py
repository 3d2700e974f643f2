"""Data frames of pandas as columns, and columns as data frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from .tables import Columns, Field


def is_frame(data: Any) -> bool:
    """Whether something is a data frame: columns with names and types."""
    return hasattr(data, "to_numpy") and hasattr(data, "columns") and hasattr(data, "dtypes")


def fields_of(frame: Any, where: str) -> list[Field]:
    """The columns of a data frame.

    Raises:
        ValueError: a column of another type than numbers, booleans, texts and categories.
    """
    return [_field(str(name), frame.iloc[:, number], where) for number, name in enumerate(frame.columns)]


def _field(name: str, column: Any, where: str) -> Field:
    import pandas

    types = pandas.api.types
    if isinstance(column.dtype, pandas.CategoricalDtype):
        return Field(name, "text", _texts(column), tuple(map(str, column.dtype.categories)))
    if not types.is_numeric_dtype(column) and not column.isna().all():
        known = column[~column.isna()]
        if all(isinstance(value, str) for value in known):
            return Field(name, "text", _texts(column))
        if not all(isinstance(value, int | float | np.number | np.bool_) for value in known):
            raise ValueError(
                f"{where}: column {name!r} holds {column.dtype}; expected numbers, booleans or texts: leave it out, or code its "
                "values by numbers"
            )
        column = column.infer_objects()
    if types.is_complex_dtype(column):
        raise ValueError(f"{where}: column {name!r} holds {column.dtype}; expected real numbers")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if types.is_bool_dtype(column):
        return Field(name, "boolean", values)
    return Field(name, "whole" if types.is_integer_dtype(column) else "real", values)


def _texts(column: Any) -> np.ndarray:
    return np.array([None if gone else str(v) for v, gone in zip(column, column.isna(), strict=True)], dtype=object)


TYPES = {"real": "float64", "whole": "Int64", "boolean": "boolean", "text": "object"}
"""The types of pandas for those of columns, all with missing values."""


def frame_of(columns: Columns, values: dict[str, list[Any]]) -> Any:
    """A data frame of columns by name, as ``Columns.values`` gives them; others have the types of their numbers."""
    import pandas

    kinds = columns.kinds()
    return pandas.DataFrame(
        {name: pandas.Series(column, dtype=TYPES[kinds.get(name) or _kind(column)]) for name, column in values.items()}
    )


def _kind(column: list[Any]) -> str:
    """The type of a column that is not of the table."""
    kinds = {bool: "boolean", int: "whole", str: "text"}
    return next((kind for of, kind in kinds.items() if all(type(value) is of for value in column)), "real")
