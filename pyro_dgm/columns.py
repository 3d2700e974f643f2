"""Location and scale of the columns of real data, in a way that survives columns far from zero or of one value."""

from __future__ import annotations

import torch
from torch import Tensor

CONSTANT = 1e-6
"""The variance that a column of one value is given, which has none of its own."""

RESOLUTION = 16.0
"""Standard deviations are taken to be at least so many units of rounding of the column's largest value."""


def location_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""The means and variances (without Bessel's correction) of columns, ``rows x shape`` to ``shape`` each.

    Squares are taken about the mean, so that nothing cancels. The variance of a column of one value is ``CONSTANT``, and none
    is so small that single numbers of the column's dtype could not tell two draws apart.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1e4, 3.0], [1e4 + 1, 3.0]])
        >>> location_and_variance(x)
        (tensor([1.0000e+04, 3.0000e+00]), tensor([2.5000e-01, 1.0000e-06]))
    """
    first = x.mean(0)
    centred = x - first
    rest = centred.mean(0)
    rounding = RESOLUTION * torch.finfo(x.dtype).eps * x.abs().amax(0)
    variance = torch.maximum(centred.sub_(rest).square().mean(0), rounding.square())
    return first + rest, torch.where(constant(x), variance.clamp_min(CONSTANT), variance)


def constant(x: Tensor) -> Tensor:
    """A mask of the columns that hold one value in all rows: ``rows x shape`` to ``shape``."""
    return x.amax(0) == x.amin(0)
