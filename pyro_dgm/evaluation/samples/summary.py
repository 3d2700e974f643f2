"""All figures of samples at once, beside those of training rows in their place."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks import check_count, check_seed
from .classifiers import two_sample_test
from .neighbours import nearest_neighbours, precision_recall
from .precision_curve import precision_curve
from .rows import check_same_width, rows_of
from .two_sample import mmd_test


class SampleFigure(NamedTuple):
    """One figure.

    Attributes:
        name: its name.
        samples: its value for samples.
        training_rows: its value for training rows in the place of the samples: what no model of that data needs to surpass.
        meaning: what it tells, in words.
    """

    name: str
    samples: float
    training_rows: float
    meaning: str


def sample_summary(samples: Any, train: Any, test: Any, n: int = 1000, seed: int = 0) -> list[SampleFigure]:
    """Figures of samples against test rows, each beside the figure of training rows in the place of the samples.

    Args:
        samples: a model, or rows.
        train: training rows.
        test: test rows.
        n: the most rows of every set, taken at random and as many of each.
        seed: the seed of the choice.

    Raises:
        ValueError: rows of other widths, rows with values that are missing, or fewer than eight of a set.

    Example:
        >>> x = torch.rand(90, 2, generator=torch.Generator().manual_seed(0))
        >>> [figure.name for figure in sample_summary(x[:30], x[30:60], x[60:])][:2]
        ['precision', 'recall']
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    trained, tested = (_mixed(rows_of(rows, name), generator) for rows, name in ((train, "train"), (test, "test")))
    count = min(check_count("n", n), len(tested), len(trained) // 2)
    made = rows_of(samples, "samples", count)
    check_same_width(samples=made, train=trained, test=tested)
    if count < 8:
        raise ValueError(f"got {len(tested)} test rows and {len(trained)} training rows; expected at least 8 and 16")
    tested = tested[:count]
    in_place, others = trained[:count], trained[count:]
    columns = [_values(made, trained, tested, seed), _values(in_place, others, tested, seed)]
    return [
        SampleFigure(name, float(columns[0][name]), float(columns[1][name]), meaning)
        for name, meaning in MEANINGS.items()
    ]


def _mixed(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)]


def _values(rows: Tensor, train: Tensor, test: Tensor, seed: int) -> dict[str, float]:
    """The figures by name."""
    near, curve = precision_recall(rows, test), precision_curve(rows, test, min(20, len(test) // 2), 3, seed=seed)
    logistic, neighbour = (two_sample_test(rows, test, name, seed=seed) for name in ("logistic", "nearest neighbour"))
    discrepancy = mmd_test(rows, test, n=len(test), seed=seed)
    return {
        "precision": near.precision,
        "recall": near.recall,
        "density": near.density,
        "coverage": near.coverage,
        "F8 of clusters": curve.f_recall,
        "F1/8 of clusters": curve.f_precision,
        "accuracy of logistic regression": logistic.accuracy,
        "its p-value": logistic.p_value,
        "accuracy of neighbours, data": neighbour.on_data,
        "accuracy of neighbours, samples": neighbour.on_samples,
        "squared discrepancy (MMD)": discrepancy.value,
        "p-value of the discrepancy": discrepancy.p_value,
        "nearest-neighbour ratio": nearest_neighbours(rows, train, test, len(rows)).ratio,
    }


MEANINGS: dict[str, str] = {
    "precision": "share of samples near test rows",
    "recall": "share of test rows near samples: low where kinds of rows are missing",
    "density": "test rows' balls that a sample lies in, over k",
    "coverage": "share of test rows whose ball holds a sample",
    "F8 of clusters": "recall by clusters",
    "F1/8 of clusters": "precision by clusters",
    "accuracy of logistic regression": "how often it tells samples from test rows; 0.5 where it cannot",
    "its p-value": "small where samples are told from test rows",
    "accuracy of neighbours, data": "0.5 where sets are alike; low where samples crowd",
    "accuracy of neighbours, samples": "0.5 where sets are alike; both near 0 for copies",
    "squared discrepancy (MMD)": "0 where sets are alike, unbiased",
    "p-value of the discrepancy": "small where sets differ",
    "nearest-neighbour ratio": "distance to training rows over that of test rows; far below 1 for copies",
}
"""What the figures tell, in their order."""
