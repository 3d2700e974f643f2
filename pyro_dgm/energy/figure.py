"""The log-partition function of an energy-based model: exact, or between annealing from below and above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class LogPartition:
    """A value of log Z in nats, without gradient, with its error as far as it is known.

    Attributes:
        value: the value, ``batch_shape`` of the parameters.
        stderr: its standard error (0 where exact).
        lower: the mean of log w of the forward annealing: below log Z in expectation.
        upper: the mean of -log w of the reverse annealing: above log Z in expectation if its chains start at the model's
            distribution; infinite where no reverse run was made. Where noise puts the two means in the other order, they
            trade places, so that ``lower`` is never above ``upper``.
        stderr_lower: the standard error of ``lower``.
        stderr_upper: the standard error of ``upper``.
        method: the name of the method that gave it.
    """

    value: Tensor
    stderr: Tensor
    lower: Tensor
    upper: Tensor
    stderr_lower: Tensor
    stderr_upper: Tensor
    method: str

    @classmethod
    def annealed(
        cls,
        value: Tensor,
        stderr: Tensor,
        forward: tuple[Tensor, Tensor],
        reverse: tuple[Tensor, Tensor],
        method: str,
    ) -> Self:
        """A value between the means of two annealing runs, each with its standard error.

        >>> import torch
        >>> zero, one, two = torch.arange(3.0)
        >>> LogPartition.annealed(one, zero, (two, zero), (one, zero), "AIS and reverse AIS").lower
        tensor(1.)
        """
        crossed = forward[0] > reverse[0]
        lower, stderr_lower = (torch.where(crossed, b, a) for a, b in zip(forward, reverse, strict=True))
        upper, stderr_upper = (torch.where(crossed, a, b) for a, b in zip(forward, reverse, strict=True))
        return cls(value, stderr, lower, upper, stderr_lower, stderr_upper, method)

    @classmethod
    def exactly(cls, value: Tensor) -> Self:
        """A value without an error.

        >>> import torch
        >>> LogPartition.exactly(torch.tensor(2.0)).exact
        True
        """
        value = value.detach()
        zero = torch.zeros_like(value)
        return cls(value, zero, value, value, zero, zero, "exact")

    @property
    def exact(self) -> bool:
        """Whether the value is exact up to rounding."""
        return self.method == "exact"
