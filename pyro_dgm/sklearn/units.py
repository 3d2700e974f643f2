"""The units in which a model takes the columns of scikit-learn's arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor


def clipped(array: np.ndarray, name: str) -> np.ndarray:
    """Values of bits or of their probabilities: those outside [0, 1] are taken for the nearer end, with a warning."""
    outside = array[(array < 0) | (array > 1)]
    if not outside.size:
        return array
    warnings.warn(
        f"{name} got {outside[0]:g} among {outside.size} values outside [0, 1]: they are taken "
        "for 0 or 1. Scale the data before, as with sklearn.preprocessing.MinMaxScaler(clip=True)",
        UserWarning,
        stacklevel=5,
    )
    return np.clip(array, 0, 1)


class Units(NamedTuple):
    """What columns are shifted and divided by.

    Attributes:
        offset, scale: one number a column.
        bits: whether the columns are bits, or probabilities of bits, instead of real numbers.
    """

    offset: np.ndarray
    scale: np.ndarray
    bits: bool

    @classmethod
    def of(cls, X: np.ndarray, bits: bool) -> Self:
        """The units of training rows: known values of real columns get mean 0 and variance 1; a constant column is centred."""
        if bits:
            return cls(np.zeros(X.shape[1]), np.ones(X.shape[1]), True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a column without a known value
            mean, deviation = np.asarray(np.nanmean(X, 0, dtype=np.float64)), np.nanstd(X, 0, dtype=np.float64)
            constant = ~(deviation > 1e-12 * np.nanmax(np.abs(X), 0, initial=1.0))
        return cls(np.nan_to_num(mean), np.where(constant, 1.0, deviation), False)

    def apply(self, X: np.ndarray, name: str) -> Tensor:
        """Rows as the model takes them, in double precision."""
        rows = clipped(X, name) if self.bits else (X - self.offset) / self.scale
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
