"""The Parzen-window figure of samples, by the protocol that published tables used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import check_count, check_seed, shown
from ...data import Split
from ...discrepancy import squared_distances
from .neighbours import ROWS_AT_ONCE
from .rows import check_same_width, rows_of

WIDTHS = tuple(float(w) for w in torch.logspace(-1, 0, 10, dtype=torch.float64))
CHOOSING_ROWS = 1000
"""The first validation rows, by which the width is chosen."""
PAIRS_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class ParzenFigure:
    r"""The mean log-density of rows under normal windows around samples, in nats; it compares with others of its kind alone.

    It is no likelihood of the model. It rises with the number of samples, rewards samples near the middles of clusters (k-means
    centres of the training rows beat the training rows themselves), and in expectation is below the log-likelihood of the model
    with output noise of the window's width (Theis, van den Oord and Bethge 2016).

    Attributes:
        value: the mean over rows.
        stderr: its standard error over rows.
        median: the median over rows, which outliers do not move.
        width: the windows' standard deviation, chosen on validation rows.
        samples: the number of windows.
        n: the number of rows.
        columns: the number of columns.
        space: the space of the rows, or None.
        widths: those tried.
    """

    value: float
    stderr: float
    median: float
    width: float
    samples: int
    n: int
    columns: int
    space: str | None
    widths: tuple[float, ...]

    def __str__(self) -> str:
        space = self.space or "space not stated"
        return (
            f"Parzen figure {self.value:.1f} ± {self.stderr:.1f} nats (median {self.median:.1f}; {self.samples} windows of width "
            f"{self.width:.3g}), {space}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON holds them."""
        return {**asdict(self), "widths": list(self.widths), "kind": "Parzen figure"}

    def __sub__(self, other: ParzenFigure) -> float:
        """The difference of two figures.

        Raises:
            ValueError: other numbers of windows, rows or columns, other spaces, or a space that is not stated.
        """
        if not isinstance(other, ParzenFigure):
            return NotImplemented
        mine, theirs = ((f.samples, f.n, f.columns, f.space, f.widths) for f in (self, other))
        if mine != theirs or self.space is None:
            raise ValueError(
                f"Parzen figures compare for the same number of windows, rows, columns, space and grid: got {mine} and {theirs}"
            )
        return self.value - other.value

    def __lt__(self, other: ParzenFigure) -> bool:
        return self - other < 0

    def __gt__(self, other: ParzenFigure) -> bool:
        return self - other > 0


def parzen(
    samples: Any,
    test: Any,
    valid: Any,
    n: int = 10_000,
    widths: Sequence[float] = WIDTHS,
    space: str | None = None,
) -> ParzenFigure:
    r"""The Parzen-window figure of a model's samples (Breuleux, Bengio and Vincent 2011; Goodfellow et al. 2014).

    $\frac1M \sum_m \log \frac1N \sum_{i \le N} N(x_m; s_i, \sigma^2 I)$ with the width $\sigma$ that the first 1000 validation
    rows choose. See ``ParzenFigure`` for what it does not tell.

    Args:
        samples: a model, of which ``n`` rows are drawn, or at least ``n`` rows; samples outside [0, 1] are taken as they are.
        test: rows, ``rows x columns``, or a split.
        valid: rows by which the width is chosen.
        n: the number of windows, N; published figures have 10,000.
        widths: the widths that are tried.
        space: the space of the rows; of a split its own.

    Raises:
        ValueError: rows of other widths, too few samples, widths that are not positive, or a chosen width at an end of those
            tried.

    Example:
        >>> import pyro_dgm as dgm
        >>> x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
        >>> dgm.evaluation.parzen(x[:100], x[100:150], x[150:], n=100).samples
        100
    """
    stated = str(test.space) if isinstance(test, Split) and space is None else space
    centres, rows, chosen_by = rows_of(samples, "samples", n), rows_of(test, "test"), rows_of(valid, "valid")
    check_same_width(samples=centres, test=rows, valid=chosen_by)
    tried = _checked(widths)
    means = [float(values.mean()) for values in _log_densities(centres, chosen_by[:CHOOSING_ROWS], tried)]
    best = max(range(len(tried)), key=means.__getitem__)
    if len(tried) > 1 and best in (0, len(tried) - 1):
        raise ValueError(
            f"the best of the widths, {tried[best]:g}, is at the end of those tried, so that a better one may lie beyond; pass "
            f"widths that reach further than {tried[0]:g} to {tried[-1]:g}"
        )
    (values,) = _log_densities(centres, rows, [tried[best]])
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return ParzenFigure(
        float(values.mean()), error, float(values.median()), tried[best], len(centres), len(rows), rows.shape[1], stated,
        tuple(tried),
    )  # fmt: skip


def _checked(widths: Any) -> list[float]:
    """The widths in order."""
    try:
        tried = sorted(np.atleast_1d(np.asarray(widths, dtype=float)).tolist())
    except (TypeError, ValueError):
        tried = []
    if isinstance(widths, str) or not tried or not all(isinstance(w, float) and 0 < w < math.inf for w in tried):
        raise ValueError(f"widths got {shown(widths)}; expected positive numbers, such as (0.1, 0.2, 0.5)")
    return tried


def _log_densities(centres: Tensor, rows: Tensor, widths: Sequence[float]) -> list[Tensor]:
    """Log-densities of rows for every width, in double precision: each ``rows``."""
    found: list[list[Tensor]] = [[] for _ in widths]
    for part in rows.split(max(PAIRS_AT_ONCE // len(centres), 1)):
        squares = squared_distances(part, centres.to(part.dtype)).double()
        for values, width in zip(found, widths, strict=True):
            values.append((squares * (-0.5 / width**2)).logsumexp(1))
    columns = rows.shape[1]
    return [
        torch.cat(values) - math.log(len(centres)) - columns * math.log(width * math.sqrt(2 * math.pi))
        for values, width in zip(found, widths, strict=True)
    ]


def parzen_references(
    train: Any,
    test: Any,
    valid: Any,
    n: int = 10_000,
    widths: Sequence[float] = WIDTHS,
    space: str | None = None,
    steps: int = 1,
    seed: int = 0,
) -> dict[str, ParzenFigure]:
    """The figures of training rows and of their k-means centres in the place of samples.

    A model whose figure is above that of the training rows is not better than the data: centres, which are means of a few
    rows each, beat the rows themselves.

    Args:
        train: the training rows.
        test: rows, or a split.
        valid: rows by which the widths are chosen.
        n: the number of windows.
        widths: the widths that are tried.
        space: the space of the rows; of a split its own.
        steps: steps of k-means, from random training rows.
        seed: the seed of the choice of rows.

    Returns:
        ``"training rows"`` and ``"k-means centres"`` with their figures.

    Raises:
        ValueError: as ``parzen``.

    Example:
        >>> x = torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
        >>> found = parzen_references(x[:200], x[200:250], x[250:], n=50)
        >>> found["k-means centres"].value > found["training rows"].value
        True
    """
    check_count("steps", steps)
    rows = rows_of(train, "train")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(check_seed(seed)))
    chosen = rows_of(rows[order], "train", n)
    centres = chosen
    for _ in range(steps):
        nearest = torch.cat([squared_distances(part, centres).argmin(1) for part in rows.split(ROWS_AT_ONCE)])
        counts = torch.bincount(nearest, minlength=len(centres)).unsqueeze(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    sets = {"training rows": chosen, "k-means centres": centres}
    return {name: parzen(windows, test, valid, n, widths, space) for name, windows in sets.items()}
