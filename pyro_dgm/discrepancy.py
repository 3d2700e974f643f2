"""Maximum mean discrepancy between two sets of rows, its kernels, and explicit moments (section 20.10.5)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .checks import check_count, check_positive, described, shown


class Kernel(ABC):
    """A positive definite function of two rows."""

    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """$k(x_i, y_j)$: ``n x D`` and ``m x D`` to ``n x m``."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The description of the kernel, as plain data."""


def check_kernel(kernel: Any) -> None:
    """Refuse what is no kernel."""
    if not isinstance(kernel, Kernel):
        raise ValueError(
            f"kernel got {shown(kernel)}; expected a discrepancy.Kernel, such as discrepancy.GaussianKernels((1.0,))"
        )


class GaussianKernels(Kernel):
    r"""A sum of Gaussian kernels, $k(x, y) = \sum_s \exp(-\|x - y\|^2 / 2s)$ (Li, Swersky and Zemel 2015).

    Args:
        squared_widths: the numbers s, squares of widths.

    Raises:
        ValueError: no width, or one that is not positive.

    Example:
        >>> GaussianKernels([1.0])(torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[0.3679]])
    """

    def __init__(self, squared_widths: Sequence[float] = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)) -> None:
        try:
            widths = tuple(float(width) for width in squared_widths)
        except (TypeError, ValueError):
            widths = ()
        if isinstance(squared_widths, str) or not widths:
            raise ValueError(
                f"squared_widths got {squared_widths!r}; expected squares of widths, such as (2, 5, 10, 20, 40, 80)"
            )
        for width in widths:
            check_positive("squared_widths", width, "squares of widths")
        self.squared_widths = widths

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return cast(Tensor, _SumOfExponentials.apply(squared_distances(x, y), self.squared_widths))

    def options(self) -> dict[str, Any]:
        return {"kernel": "gaussian", "squared_widths": list(self.squared_widths)}


class PolynomialKernel(Kernel):
    r"""$k(x, y) = (c + x^\top y)^p$, whose discrepancy compares all moments up to the degree p.

    Args:
        degree: the degree, p.
        offset: c, at least 0.

    Raises:
        ValueError: a degree below one, or a negative offset.

    Example:
        >>> PolynomialKernel()(torch.ones(1, 2), torch.ones(1, 2))
        tensor([[9.]])
    """

    def __init__(self, degree: int = 2, offset: float = 1.0) -> None:
        self.degree = check_count("degree", degree)
        check_positive("offset", offset, "a number of at least 0", zero=True)
        self.offset = float(offset)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = _alike(x, y)
        return (self.offset + x @ y.mT) ** self.degree

    def options(self) -> dict[str, Any]:
        return {"kernel": "polynomial", "degree": self.degree, "offset": self.offset}


class _SumOfExponentials(torch.autograd.Function):
    """The sum of ``exp(-d / 2s)`` over s; one matrix is kept for the gradient instead of one for every s."""

    @staticmethod
    def forward(ctx: Any, distances: Tensor, squared_widths: tuple[float, ...]) -> Tensor:
        recorded, term, last = ctx.needs_input_grad[0], torch.empty_like(distances), 0.0
        total = torch.zeros_like(distances)
        slope = torch.zeros_like(distances) if recorded else None
        for width in sorted(squared_widths, reverse=True):
            if last == 2 * width:
                term.square_()  # cheaper than another exponential
            else:
                torch.mul(distances, -0.5 / width, out=term).exp_()
            last = width
            total += term
            if slope is not None:
                slope.add_(term, alpha=-0.5 / width)
        if slope is not None:
            ctx.save_for_backward(slope)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("GaussianKernels have first derivatives alone: leave create_graph=True out")
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances, ``n x D`` and ``m x D`` to ``n x m``, never below zero.

    Raises:
        ValueError: no matrices of real numbers, or rows of other widths.

    Example:
        >>> squared_distances(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        tensor([[25.]])
    """
    x, y = _alike(x, y)
    origin = x.detach().mean(0)  # about which little is lost to rounding
    x, y = x - origin, y - origin
    squares = x.square().sum(1).unsqueeze(1) + y.square().sum(1)
    return torch.addmm(squares, x, y.mT, alpha=-2).clamp_min(0.0)


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets of rows in one precision, the higher of theirs."""
    for rows in (x, y):
        if not isinstance(rows, Tensor) or rows.dim() != 2 or not rows.is_floating_point():
            raise ValueError(f"got {described(rows)}; expected rows of real numbers, n x D and m x D")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"got rows of shapes {tuple(x.shape)} and {tuple(y.shape)}; expected n x D and m x D")
    kind = torch.promote_types(x.dtype, y.dtype)
    return x.to(kind), y.to(kind)


def mean_discrepancy(x: Tensor, y: Tensor, kernel: Kernel, unbiased: bool = False) -> Tensor:
    r"""The squared maximum mean discrepancy of two sets of rows (Gretton et al. 2012), a scalar.

    The V-statistic $\frac1{n^2}\sum_{ij} k(x_i, x_j) + \frac1{m^2}\sum_{ij} k(y_i, y_j) - \frac2{nm}\sum_{ij} k(x_i, y_j)$
    is never negative, and too large by some $1/n + 1/m$; the U-statistic leaves $i = j$ out of the first two sums, is right on
    average and may be negative.

    Args:
        x: ``n x D``.
        y: ``m x D``.
        kernel: the kernel.
        unbiased: whether to return the U-statistic.

    Raises:
        ValueError: no matrices of real numbers, rows of other widths, no rows or fewer than two of them for the U-statistic, or
            another kernel.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> mean_discrepancy(x, x, GaussianKernels([1.0]))
        tensor(0.)
    """
    check_kernel(kernel)
    x, y = _alike(x, y)
    fewest = 2 if unbiased else 1
    if min(len(x), len(y)) < fewest:
        raise ValueError(f"got {len(x)} and {len(y)} rows; expected at least {fewest} of either set")
    return _within(x, kernel, unbiased) + _within(y, kernel, unbiased) - 2 * kernel(x, y).mean()


def _within(x: Tensor, kernel: Kernel, unbiased: bool) -> Tensor:
    """The mean of the kernel over pairs of rows of one set."""
    values = kernel(x, x)
    if not unbiased:
        return values.mean()
    return (values.sum() - values.diagonal().sum()) / (len(x) * (len(x) - 1))


def root(squared: Tensor) -> Tensor:
    """The square root of a discrepancy, whose gradient at zero is zero; below zero it is zero."""
    value = squared.detach().clamp_min(0.0).sqrt()
    known = value > torch.finfo(value.dtype).eps ** 0.5  # below is rounding, whose direction tells nothing
    slope = torch.where(known, 0.5 / value.clamp_min(torch.finfo(value.dtype).tiny), 0.0)
    return value + (squared - squared.detach()) * slope


def moment(x: Tensor, degrees: Tensor | Sequence[int]) -> Tensor:
    r"""An explicit moment of rows, $E \prod_i x_i^{n_i}$ (20.82): ``n x D`` to a scalar.

    Args:
        x: rows.
        degrees: the exponents $n_i$, ``D``.

    Raises:
        ValueError: no rows of real numbers, or another number of exponents than columns.

    Example:
        >>> moment(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), [1, 2])
        tensor(26.)
    """
    _alike(x, x)
    if not len(x):
        raise ValueError("got no rows; expected at least one")
    try:
        exponents = torch.as_tensor(degrees, device=x.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"degrees got {described(degrees)}; expected {x.shape[1]} numbers, one for every column"
        ) from None
    if exponents.shape != x.shape[1:]:
        raise ValueError(f"degrees got {tuple(exponents.shape)}; expected {tuple(x.shape[1:])}, one for every column")
    return (x**exponents).prod(1).mean()


def median_squared_width(x: Tensor, rows: int = 1000) -> float:
    """The median squared distance between two of the first ``rows`` rows, the usual square of a kernel's width.

    Where half of the rows are equal it is their mean squared distance, and where all are one.

    Raises:
        ValueError: no rows of real numbers, fewer than two, or values that are not finite.

    Example:
        >>> median_squared_width(torch.tensor([[0.0], [1.0], [3.0]]))
        4.0
    """
    _alike(x, x)
    x = x[: check_count("rows", rows, 2)].to(torch.promote_types(x.dtype, torch.float32))
    if len(x) < 2:
        raise ValueError(f"got {len(x)} rows; expected at least 2, whose distance tells the kernel's width")
    if not bool(x.isfinite().all()):
        raise ValueError("got rows with values that are NaN or infinite; drop those rows")
    squares = torch.nn.functional.pdist(x).square()
    found = float(squares.median()) or float(squares.mean())
    return found if found > 0 and math.isfinite(found) else 1.0
