"""The units in which a model takes the columns of scikit-learn's arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ..columns import mean_and_deviation

GREYS = tuple(1 / p for p in range(2, 258) if all(p % q for q in range(2, p)))
"""One over every prime to 257, of which one is a level wherever there are equally spaced levels, from three to 258."""


def clipped(array: np.ndarray, name: str, low: float = 0.0) -> np.ndarray:
    """Columns with ends, from ``low`` to 1: values outside are taken for the nearer end, with a warning."""
    outside = array[(array < low) | (array > 1)]
    if not outside.size:
        return array
    warnings.warn(
        f"{name} got {outside[0]:g} among {outside.size} values outside [{low:g}, 1]: they are taken "
        f"for {low:g} or 1. Scale the data before, as with sklearn.preprocessing.MinMaxScaler({_range(low)}clip=True)",
        UserWarning,
        stacklevel=5,
    )
    return np.clip(array, low, 1)


def _range(low: float) -> str:
    return f"({low:g}, 1), " if low else ""


def location_and_scale(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of the known values of columns.

    Raises:
        ValueError: values so large that their squares are infinite.
    """
    mean, deviation = (numbers.numpy() for numbers in mean_and_deviation(torch.tensor(X, dtype=torch.float64)))
    if not np.isfinite(deviation).all():
        place = int(np.argmin(np.isfinite(deviation)))
        raise ValueError(
            f"X has values up to {np.nanmax(np.abs(X[:, place])):g} in column {place}, whose variance is beyond all numbers; "
            "expected smaller ones: divide the column by a constant"
        )
    return mean, deviation


class Units(NamedTuple):
    """What columns are shifted and divided by.

    Attributes:
        offset, scale: one number a column.
        bits: whether the columns are bits, or probabilities of bits.
        low: the lower end of columns that have ends, 0 or -1, the upper one being 1; None of any real numbers.
    """

    offset: np.ndarray
    scale: np.ndarray
    bits: bool
    low: float | None

    @classmethod
    def of(cls, X: np.ndarray, takes: Callable[..., bool], as_they_are: Callable[[np.ndarray], bool]) -> Self:
        """The units of training rows.

        Known values of real columns get mean 0 and variance 1; a constant column is centred. Columns with ends stay as they are,
        and so do classes and columns of several kinds, which have no ends in common.

        Args:
            X: training rows.
            takes: whether the model takes some numbers, each as a whole row.
            as_they_are: whether the model takes rows without missing values.
        """
        if not takes(-100.0, 100.0):  # the noise of a generator's output reaches beyond its ends
            low = -1.0 if takes(-1.0, 1.0) else 0.0
            outside = bool((low > X).any() or (X > 1).any())
            whole = takes(2.0) or (outside and as_they_are(np.where(np.isnan(X), np.nanmax(X, 0), X)))
            if whole and not takes(1.5):
                return cls(np.zeros(X.shape[1]), np.ones(X.shape[1]), False, None)
            bits = not low and not any(takes(0.0, grey) for grey in (0.3, *GREYS))
            return cls(np.zeros(X.shape[1]), np.ones(X.shape[1]), bits, low)
        mean, deviation = location_and_scale(X)
        return cls(mean, np.where(deviation > 0, deviation, 1.0), False, None)

    def apply(self, X: np.ndarray, name: str) -> Tensor:
        """Rows as the model takes them, in double precision."""
        rows = (X - self.offset) / self.scale if self.low is None else clipped(X, name, self.low)
        return torch.tensor(np.asarray(rows, dtype=np.float64))

    def undo(self, rows: Tensor) -> np.ndarray:
        """Rows of the model in the units of the data."""
        return np.asarray(rows.detach().numpy() * self.scale + self.offset)

    @property
    def log_determinant(self) -> float:
        """What the log-density of the data is more than that of the model's rows, in nats a row."""
        return -float(np.log(self.scale).sum())


def refuses(question: Callable[[Tensor], Any], rows: Tensor) -> bool:
    """Whether a model's own check of data, or a question to it, refuses rows.

    Args:
        question: called with the rows; it raises ``ValueError`` to refuse them.
        rows: rows of the model's width, finite, at least one.
    """
    try:
        question(rows)
    except ValueError:
        return True
    return False
