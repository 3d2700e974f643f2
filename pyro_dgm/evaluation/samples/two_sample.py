"""Tests of whether two sets of rows have one law."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks import check_count, check_seed
from ...discrepancy import GaussianKernels, Kernel, check_kernel, median_squared_width
from ...models.shared.model import Model
from .rows import at_random, check_same_width, rows_of


class MMDTest(NamedTuple):
    """A two-sample test by the maximum mean discrepancy.

    Attributes:
        value: the unbiased squared discrepancy.
        p_value: the share of permutations with a value at least as large, the observed one among them.
        kernel: the kernel, in plain data.
        n: the numbers of rows of both sets.
    """

    value: float
    p_value: float
    kernel: dict[str, Any]
    n: tuple[int, int]


def mmd_test(
    samples: Any, data: Any, kernel: Kernel | None = None, permutations: int = 500, n: int = 1000, seed: int = 0
) -> MMDTest:
    r"""Whether samples and data have one law, by the unbiased discrepancy and permutations of both sets (Gretton et al. 2012).

    Args:
        samples: a model, or rows.
        data: rows.
        kernel: by default a Gaussian one whose squared width is the median squared distance of the data.
        permutations: the number of random relabellings.
        n: the most rows of either set, taken at random.
        seed: seed of the permutations, and of the choice of rows.

    Raises:
        ValueError: rows of other widths, fewer than two of either set, or another kernel.

    Example:
        >>> import pyro_dgm as dgm
        >>> x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
        >>> dgm.evaluation.mmd_test(x[:100], x[100:]).p_value > 0.05
        True
    """
    check_count("permutations", permutations)
    check_seed(seed)
    if kernel is not None:
        check_kernel(kernel)
    real = at_random(rows_of(data, "data"), n, seed)
    made = at_random(rows_of(samples, "samples", n if isinstance(samples, Model) else None), n, seed)
    check_same_width(samples=made, data=real)
    if min(len(made), len(real)) < 2:
        raise ValueError(f"got {len(made)} samples and {len(real)} rows of data; expected at least two of either")
    if kernel is None:
        kernel = GaussianKernels((median_squared_width(real),))
    rows = torch.cat([made.to(real), real])
    values = kernel(rows, rows).double()
    values.fill_diagonal_(0.0)
    first = torch.zeros(permutations + 1, len(rows), dtype=torch.float64)
    first[0, : len(made)] = 1.0
    generator = torch.Generator().manual_seed(seed)
    for number in range(1, permutations + 1):
        first[number, torch.randperm(len(rows), generator=generator)[: len(made)]] = 1.0
    found = _discrepancies(values, first)
    share = float((found >= found[0] - 1e-12).double().mean())
    return MMDTest(float(found[0]), share, kernel.options(), (len(made), len(real)))


def _discrepancies(values: Tensor, first: Tensor) -> Tensor:
    """Unbiased discrepancies of the rows that are marked against the others, for every marking."""
    second = 1 - first
    n, m = first.sum(1), second.sum(1)
    with_first = first @ values
    within = (with_first * first).sum(1) / (n * (n - 1)) + ((second @ values) * second).sum(1) / (m * (m - 1))
    return within - 2 * (with_first * second).sum(1) / (n * m)
