"""Arguments of scikit-learn's estimators as arrays of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from ..checks import shown
from ..data.frames import fields_of, is_frame


def checked_options(name: str, options: Any, example: str) -> dict[str, Any]:
    """Options by name, none where there are none.

    Args:
        name: the estimator's argument.
        options: its value.
        example: a value for the message.

    Raises:
        ValueError: no dictionary with names.
    """
    if options is None:
        return {}
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise ValueError(f"{name} got {shown(options)}; expected a dictionary, as {example}")
    return dict(options)


def validated(estimator: Any, X: Any, y: Any = "no_validation", **options: Any) -> Any:
    """Rows as an array in single or double precision, and ``y``, as scikit-learn's ``validate_data`` gives them.

    Raises:
        ValueError: what is no array of numbers; a data frame with columns of texts, which the message names.
    """
    name = type(estimator).__name__
    if is_frame(X) and (texts := _texts(X, name)):
        raise ValueError(
            f"{name} got a data frame with texts ({', '.join(map(repr, texts[:5]))}{' …' if len(texts) > 5 else ''}); expected "
            "columns of numbers. Code texts before, in a pipeline: make_column_transformer((OneHotEncoder(sparse_output=False), "
            f"{texts[:5]!r}), remainder='passthrough'). dgm.fit and dgm.data.load take such frames as they are"
        )
    return validate_data(estimator, X, y, dtype=(np.float64, np.float32), **options)


def _texts(frame: Any, name: str) -> list[str]:
    """The columns of a data frame that are texts or categories without numbers."""
    fields = fields_of(frame, f"the data frame of {name}")
    return [field.name for field in fields if field.kind == "text" and not _are_numbers(field.values)]


def _are_numbers(values: np.ndarray) -> bool:
    try:
        values.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True
