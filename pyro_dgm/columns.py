"""Location, scale and linear prediction of the columns of real data, also where they lie far from zero or hold one value."""

from __future__ import annotations

import torch
from torch import Tensor

CONSTANT = 1e-6
"""The variance that a column of one value is given, which has none of its own."""

RESOLUTION = 16.0
"""Standard deviations are taken to be at least so many units of rounding of the column's largest value."""

ROUNDING = 1e-12
"""A deviation of so little of a column's largest number is one of rounding: the column is constant."""


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


def mean_and_deviation(x: Tensor) -> tuple[Tensor, Tensor]:
    """The means and standard deviations of the known values of columns, ``rows x columns`` to ``columns`` each.

    NaN stands for a missing value. The deviation of a column of one value is 0, also where it is not so by rounding alone; a
    column without known values has mean 0 and deviation 0. This is what columns are standardised by, everywhere: their numbers
    should be in double precision, since those of single precision have no digits left after the eighth.

    Example:
        >>> import torch
        >>> mean, deviation = mean_and_deviation(torch.tensor([[1.0, 3.0], [torch.nan, 3.0], [5.0, 3.0]]).double())
        >>> mean.tolist(), deviation.round(decimals=9).tolist()
        ([3.0, 3.0], [2.0, 0.0])
    """
    known = ~x.isnan()
    count = known.sum(0).clamp_min(1).to(x.dtype)
    values = torch.where(known, x, 0.0)
    mean = values.sum(0) / count
    deviation = torch.where(known, values, mean).std(0, correction=0) * (len(x) / count).sqrt()
    return mean, torch.where(deviation > ROUNDING * values.abs().amax(0), deviation, 0.0)


def constant(x: Tensor) -> Tensor:
    """A mask of the columns that hold one value in all rows: ``rows x shape`` to ``shape``."""
    return x.amax(0) == x.amin(0)


def linear_prediction(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Ridge regression of outputs on inputs: weights A, ``inputs x outputs``, intercepts and error variances, ``outputs``.

    The ridge on standardised inputs is that of one row. The variances are means of squared errors of rows that took no part in
    the regression, $e_i / (1 - h_i)$ with the leverages $h_i$, so that they are honest where inputs are many or rows are few.
    With one row, or with constant inputs, A is zero and the variances are those of the outputs.

    Example:
        >>> import torch
        >>> x = torch.arange(100.0).unsqueeze(1)
        >>> weight, intercept, variance = linear_prediction(x, 2 * x + 5)
        >>> round(float(weight), 1), bool(variance < 1)
        (2.0, True)
    """
    (centre, spread), (location, total) = location_and_variance(inputs), location_and_variance(outputs)
    step = torch.where(constant(inputs), 0.0, spread.rsqrt()).double()
    standard = (inputs - centre).double() * step
    left, size, right = torch.linalg.svd(standard, full_matrices=False)
    centred = (outputs - location).double()
    loadings = left.T @ centred
    weight = step.unsqueeze(-1) * (right.T @ ((size / (size.square() + 1)).unsqueeze(-1) * loadings))
    shrunk = size.square() / (size.square() + 1)
    leverage = (left.square() * shrunk).sum(1, keepdim=True) + 1 / len(inputs)
    error = (centred - left @ (shrunk.unsqueeze(-1) * loadings)) / (1 - leverage).clamp_min(1 / len(inputs))
    weight = weight.to(outputs)
    variance = torch.maximum(error.square().mean(0).to(outputs), CONSTANT * total)
    variance = torch.where(constant(outputs), total, variance)  # one row's columns are constant too
    return weight, location - centre @ weight, variance


def has_missing(x: Tensor) -> bool:
    """Whether rows have missing values (NaN).

    >>> has_missing(torch.tensor([1.0, torch.nan])), has_missing(torch.tensor([torch.inf, -torch.inf]))
    (True, False)
    """
    # A sum takes a twentieth of the time of x.isnan().any(), and is NaN where an entry is.
    return bool(x.detach().sum().isnan()) and bool(x.isnan().any())
