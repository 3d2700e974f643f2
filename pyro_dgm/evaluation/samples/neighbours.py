"""Neighbours of samples among data: copies, precision and recall."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks import check_count, check_seed
from ...discrepancy import squared_distances
from ...models.shared.model import Model
from .rows import at_random, check_same_width, rows_of

ROWS_AT_ONCE = 1000

TIE = 1e-9
"""Squared distances are equal up to this share of the largest row's square."""


class PrecisionRecall(NamedTuple):
    """The shares of samples near data and of data near samples.

    Attributes:
        precision: the share of samples within some row's radius, its distance to its k-th other row.
        recall: the share of rows within some sample's radius: low where modes are lost.
        density: the mean number of rows' balls that a sample is in, over k; above 1 where samples crowd.
        coverage: the share of rows whose ball holds a sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


class NearestNeighbours(NamedTuple):
    """Distances of samples to their nearest training rows, beside those of held-out rows.

    Attributes:
        nearest: the nearest training row of every sample.
        distances: its distance, ``samples``.
        held_out: the distances of held-out rows to their nearest training rows.
        ratio: the median of ``distances`` over that of ``held_out``; far below 1 where samples are copies.
    """

    nearest: Tensor
    distances: Tensor
    held_out: Tensor
    ratio: float


def precision_recall(samples: Any, data: Any, k: int = 3, n: int | None = None, seed: int = 0) -> PrecisionRecall:
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of samples against data.

    Copies of the data look perfect: see ``nearest_neighbours``.

    Args:
        samples: a model, or rows.
        data: rows; both sets should be of one size.
        k: the neighbour whose distance is a row's radius.
        n: the number of rows of either set that are taken, at random; by default as many as there are data.
        seed: the seed of their choice.

    Raises:
        ValueError: rows of other widths, or not more than k of them.

    Example:
        >>> import pyro_dgm as dgm
        >>> x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
        >>> dgm.evaluation.precision_recall(x, x)[:2]
        (1.0, 1.0)
    """
    real = rows_of(data, "data")
    made = rows_of(samples, "samples", (n or len(real)) if isinstance(samples, Model) else None)
    check_same_width(samples=made, data=real)
    if n is not None and min(len(real), len(made)) < check_count("n", n):
        raise ValueError(f"got {len(made)} samples and {len(real)} rows of data; expected at least n={n} of either")
    made, real = at_random(made, n, seed), at_random(real, n, seed)
    check_count("k", k)
    if min(len(real), len(made)) <= k:
        raise ValueError(f"got {len(made)} samples and {len(real)} rows of data; expected more than k={k} of either")
    real, made = real.double(), made.double()
    tie = tie_of(torch.cat([real, made]))
    of_real, of_made = _radii(real, k), _radii(made, k)
    balls, covered = torch.zeros(len(made), dtype=torch.int64), torch.zeros(len(real), dtype=torch.bool)
    precise, recalled = torch.zeros(len(made), dtype=torch.bool), torch.zeros(len(real), dtype=torch.bool)
    for start in range(0, len(made), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        squares = squared_distances(made[part], real)
        precise[part] = (squares <= of_real + tie).any(1)
        recalled |= (squares <= of_made[part].unsqueeze(1) + tie).any(0)
        within = squares < of_real - tie
        balls[part] = within.sum(1)
        covered |= within.any(0)
    shares = (precise, recalled, balls.double() / k, covered)
    return PrecisionRecall(*(float(share.double().mean()) for share in shares))


def nearest_neighbours(samples: Any, train: Any, held_out: Any, n: int = 1000, seed: int = 0) -> NearestNeighbours:
    """The nearest training rows of samples, beside those of rows that no model saw.

    Small shifts of pictures are large distances: copies that were moved by a pixel are not found.

    Args:
        samples: a model, or rows.
        train: the training rows.
        held_out: rows that were held out, of which as many are compared, taken at random.
        n: the number of samples, the first of them.
        seed: the seed of the choice of held-out rows.

    Raises:
        ValueError: rows of other widths, or too few.

    Example:
        >>> import pyro_dgm as dgm
        >>> x = torch.rand(60, 2, generator=torch.Generator().manual_seed(0))
        >>> dgm.evaluation.nearest_neighbours(x[:5], x[:50], x[50:], n=5).ratio
        0.0
    """
    check_seed(seed)
    made, trained, rest = rows_of(samples, "samples", n), rows_of(train, "train"), rows_of(held_out, "held_out")
    check_same_width(samples=made, train=trained, held_out=rest)
    made, rest = made.to(trained), at_random(rest, len(made), seed).to(trained)
    (index, distances), (_, others) = _nearest(made, trained), _nearest(rest, trained)
    return NearestNeighbours(index, distances, others, float(distances.median() / others.median()))


def tie_of(rows: Tensor) -> float:
    """The difference up to which squared distances between rows are equal: those of bits often are, and rounding parts them."""
    return TIE * float(rows.square().sum(1).max())


def _nearest(rows: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest row of the data, and its distance computed from differences, so that a copy has zero."""
    index = torch.cat([squared_distances(part, data).argmin(1) for part in rows.split(ROWS_AT_ONCE)])
    return index, (rows - data[index]).square().sum(1).sqrt()


def _radii(rows: Tensor, k: int) -> Tensor:
    """Squared distances of rows to their k-th other row."""
    found = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        squares = squared_distances(rows[start : start + ROWS_AT_ONCE], rows)
        own = torch.arange(len(squares))
        squares[own, own + start] = torch.inf
        found.append(squares.kthvalue(k, 1).values)
    return torch.cat(found)
