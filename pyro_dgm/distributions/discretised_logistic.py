"""Logistic distribution over grey levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all
from torch.nn.functional import logsigmoid

from ..checks import check_count

SLACK = 1e-2
"""The largest distance of a value from a grey level, in levels: rounding in single precision stays below it."""


class GreyLevels(constraints.Constraint):
    """The values $k / (L - 1)$ for k = 0 to L - 1.

    Args:
        levels: the number of values, L.

    Example:
        >>> import torch
        >>> GreyLevels(3).check(torch.tensor([0.0, 0.5, 0.7, 1.5]))
        tensor([ True,  True, False, False])
    """

    is_discrete = True
    event_dim = 0

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def check(self, value: Tensor) -> Tensor:
        """Whether every entry is a grey level, up to rounding."""
        number = value * (self.levels - 1)
        return (value >= 0) & (value <= 1) & ((number - number.round()).abs() <= SLACK)


class DiscretisedLogistic(TorchDistribution):
    r"""A logistic variable rounded to the nearest of L grey levels in [0, 1] (Kingma et al. 2016; Salimans et al. 2017).

    $P(x = k / (L - 1)) = \sigma\bigl(\frac{x + w - m}{s}\bigr) - \sigma\bigl(\frac{x - w - m}{s}\bigr)$ with half a level's
    width $w = 1 / (2L - 2)$; the tails beyond 0 and 1 belong to the first and the last level. So it is a probability, not
    a density: log-probabilities are at most 0, in nats, and comparable only with those over the same levels.

    They are computed as $\log\sigma(a) + \log\sigma(-b) + \log(1 - e^{-1 / (L - 1) s})$ with a and b the two arguments above,
    without a subtraction in which digits could cancel.

    Args:
        location: m, in the units of the data; any real number.
        scale: s, positive.
        levels: the number of values, L.

    Raises:
        ValueError: fewer than two levels; with validation, a scale that is not positive, or a value that is no level.

    Example:
        >>> import torch
        >>> dist = DiscretisedLogistic(torch.tensor([0.2, 0.9]), 0.1, levels=5)
        >>> dist.log_prob(torch.linspace(0, 1, 5).unsqueeze(-1)).exp().sum(0)
        tensor([1., 1.])
    """

    arg_constraints = {"location": constraints.real, "scale": constraints.positive}

    def __init__(
        self, location: Tensor | float, scale: Tensor | float, levels: int = 256, validate_args: bool | None = None
    ) -> None:
        self.levels = check_levels(levels)
        self.location, self.scale = broadcast_all(location, scale)
        super().__init__(self.location.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return GreyLevels(self.levels)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> DiscretisedLogistic:
        other = object.__new__(DiscretisedLogistic)
        other.location, other.scale = self.location.expand(*batch_shape), self.scale.expand(*batch_shape)
        other.levels = self.levels
        TorchDistribution.__init__(other, torch.Size(batch_shape), validate_args=False)
        other._validate_args = self._validate_args
        return other

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        last = self.levels - 1
        number = (value * last).round()
        above = logsigmoid(((number + 0.5) / last - self.location) / self.scale)
        below = logsigmoid((self.location - (number - 0.5) / last) / self.scale)
        width = (-torch.expm1(-1 / (last * self.scale))).log()
        first, end = number <= 0, number >= last
        return above.masked_fill(end, 0) + below.masked_fill(first, 0) + width.masked_fill(first | end, 0)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        u = torch.rand(shape, dtype=self.location.dtype, device=self.location.device)
        last = self.levels - 1
        return ((self.location + self.scale * torch.logit(u)) * last).round().clamp(0, last) / last

    @property
    def mean(self) -> Tensor:
        r"""The mean over the levels, $\frac{1}{L - 1} \sum_{k=1}^{L-1} P(x \ge k / (L - 1))$."""
        last = self.levels - 1
        total = torch.zeros_like(self.location)
        for k in range(1, self.levels):
            total = total + torch.sigmoid((self.location - (k - 0.5) / last) / self.scale)
        return total / last


def check_levels(levels: int) -> int:
    """Check a number of grey levels and return it.

    Raises:
        ValueError: fewer than two, or not an integer.
    """
    return check_count("levels", levels, 2, "the number of grey levels", why=" (256 for bytes / 255)")


LOGISTIC_SPREAD = math.pi / math.sqrt(3)
"""The standard deviation of a logistic variable of scale one."""
