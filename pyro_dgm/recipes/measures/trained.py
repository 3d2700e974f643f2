"""What a measure is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Outcome = tuple[dict[str, Any], str, dict[str, float]]
"""A figure (value, errors, kind, method, space, number of rows), its text, and further numbers by name."""


class Trained(NamedTuple):
    """A recipe's trained model and its data.

    Attributes:
        model: the model.
        data: the splits; measures are taken on ``data.test``, and choose by ``data.valid``.
        classify: a function from rows to classes that was trained on the model's features, or None.
        fast: whether only a few rows are there, to see that the recipe works.
    """

    model: Any
    data: Any
    classify: Callable[..., Any] | None
    fast: bool
