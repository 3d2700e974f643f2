"""A moving average of the weights along training, by which a run is judged and which it gives back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


class Averages:
    """The average of tensors that training changes, with a share of the past at every step; without one it does nothing.

    Args:
        values: what training changes.
        share: how much of the average is kept at a step, or None for no average.

    Attributes:
        means: the averages in the order of the values; None before ``begin``, and without a share.
    """

    def __init__(self, values: list[Tensor], share: float | None) -> None:
        self.values, self.share = values, share
        self.means: list[Tensor] | None = None

    def begin(self) -> None:
        """Begin with the present values."""
        if self.share is not None:
            self.means = [value.detach().clone() for value in self.values]

    def step(self) -> None:
        """Take in the present values."""
        if self.means is not None and self.share is not None:
            torch._foreach_lerp_(self.means, [value.detach() for value in self.values], 1 - self.share)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """A block in which the values are the averages."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def stay(self) -> None:
        """Make the values the averages for good."""
        if self.means is not None:
            with torch.no_grad():
                for value, mean in zip(self.values, self.means, strict=True):
                    value.copy_(mean)

    def _exchange(self) -> None:
        if self.means is not None:
            with torch.no_grad():
                for value, mean in zip(self.values, self.means, strict=True):
                    current = value.detach().clone()
                    value.copy_(mean)
                    mean.copy_(current)
