"""How well a score ranks anomalies above other rows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...checks import check_count, check_seed, check_share, described, shown

Interval = tuple[float, float]

ENTRIES_AT_ONCE = 5_000_000
"""Weights of bootstrap samples that are held at a time."""


@dataclass(frozen=True)
class Ranking:
    r"""How well a score ranks anomalies, with intervals over the choice of rows.

    Attributes:
        average_precision: $\sum_n (R_n - R_{n-1}) P_n$ over distinct scores, the mean of the precisions at the anomalies.
        average_precision_interval: its interval.
        auc: the probability that an anomaly is scored above another row, ties by half.
        auc_interval: its interval.
        precision: the share of anomalies among the rows that are taken for one; None where no cut
            was asked for, or none is taken.
        recall: the share of anomalies that are taken for one.
        taken: the number of rows that are taken for an anomaly.
        anomalies: the number of anomalies; an average precision of ``anomalies / n`` is that of a score by chance.
        n: the number of rows.
        level: the probability of the intervals.
    """

    average_precision: float
    average_precision_interval: Interval
    auc: float
    auc_interval: Interval
    precision: float | None
    recall: float | None
    taken: int | None
    anomalies: int
    n: int
    level: float

    def __str__(self) -> str:
        pairs = (("average precision", self.average_precision, self.average_precision_interval),
                 ("AUC", self.auc, self.auc_interval))  # fmt: skip
        figures = ", ".join(f"{name} {value:.3f} [{low:.3f}, {high:.3f}]" for name, value, (low, high) in pairs)
        cut = f", of {self.taken} taken: precision {self.precision:.3f}, recall {self.recall:.3f}" if self.taken else ""
        return f"{figures}{cut}; {self.anomalies} anomalies among {self.n} rows (by chance {self.anomalies / self.n:.3f}, 0.5)"

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON holds them."""
        return {name: [*value] if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def rank(
    scores: Any,
    anomalies: Any,
    threshold: float | None = None,
    first: int | None = None,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Ranking:
    r"""Average precision and AUC of scores that are high for anomalies, and precision and recall at a cut.

    Rows of equal scores are taken together, as scikit-learn does. The intervals are percentiles of bootstrap samples, in which
    anomalies and other rows are drawn apart.

    Args:
        scores: a number a row, high where the row is strange, such as $-\log p(x)$, a bound, a free energy or an error of
            reconstruction.
        anomalies: booleans (or 0 and 1) that mark the anomalies.
        threshold: rows with this score or more are taken for anomalies.
        first: so many rows of the highest scores are. Of rows that tie for the last places, each is counted by the probability
            of its getting one.
        draws: the number of bootstrap samples.
        level: the probability of the intervals.
        seed: the seed of the bootstrap samples.

    Raises:
        ValueError: numbers that do not match, scores that are not finite, no anomaly or nothing else; both cuts.

    Example:
        >>> found = rank([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.5, 0.1], [1, 0, 1, 1, 0, 0, 1, 0], first=3)
        >>> round(found.average_precision, 3), found.auc, found.recall
        (0.747, 0.75, 0.5)
    """
    values, marked = _checked(scores, anomalies)
    if threshold is not None and first is not None:
        raise ValueError(f"got threshold={threshold} and first={first}; choose one of the two cuts")
    check_count("draws", draws, 20)
    check_share("level", level, "the probability of the intervals")
    generator = np.random.default_rng(check_seed(seed))
    order = np.argsort(-values, kind="stable")
    ordered, hits = values[order], marked[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # the last row of every distinct score
    average, area = _average_and_area(np.ones((1, len(hits))), hits, ends)
    many = [
        _average_and_area(_resampled(hits, count, generator), hits, ends)
        for count in _parts(draws, max(ENTRIES_AT_ONCE // len(hits), 1))
    ]
    tails = [(1 - level) / 2, (1 + level) / 2]
    (low, high), (lowest, highest) = (
        np.quantile(np.concatenate(found), tails).tolist() for found in zip(*many, strict=True)
    )
    precision, recall, taken = _cut(ordered, hits, threshold, first)
    return Ranking(
        float(average[0]), (low, high), float(area[0]), (lowest, highest), precision, recall, taken, int(hits.sum()),
        len(hits), level,
    )  # fmt: skip


def _checked(scores: Any, anomalies: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores in double precision, and booleans."""
    values, marks = (np.asarray(v.detach().cpu() if hasattr(v, "detach") else v) for v in (scores, anomalies))
    if values.ndim != 1 or values.dtype.kind not in "buif" or not np.isfinite(values).all():
        raise ValueError(f"scores got {described(scores)}; expected a finite number for every row")
    if marks.shape != values.shape or marks.dtype.kind not in "buif" or not np.isin(marks, (0, 1)).all():
        raise ValueError(
            f"anomalies got {described(anomalies)}; expected {len(values)} booleans (or 0 and 1), one for every score"
        )
    marks = marks.astype(bool)
    if not 0 < marks.sum() < len(marks):
        raise ValueError(f"{int(marks.sum())} of {len(marks)} rows are anomalies; expected some, and other rows")
    return values.astype(float), marks


def _average_and_area(weights: np.ndarray, hits: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and AUC of weighted rows in order of their scores: ``samples`` each."""
    true = np.cumsum(weights * hits, 1)[:, ends]
    false = np.cumsum(weights * ~hits, 1)[:, ends]
    more_true, more_false = (np.diff(counts, axis=1, prepend=0.0) for counts in (true, false))
    average = (more_true * true / np.maximum(true + false, 1.0)).sum(1) / true[:, -1]
    area = (more_false * (true - more_true / 2)).sum(1) / (true[:, -1] * false[:, -1])
    return average, area


def _resampled(hits: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """The numbers of times that rows are in bootstrap samples, ``count x rows``."""
    weights = np.empty((count, len(hits)))
    for kind in (hits, ~hits):
        weights[:, kind] = generator.multinomial(kind.sum(), np.full(kind.sum(), 1 / kind.sum()), count)
    return weights


def _parts(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def _cut(
    ordered: np.ndarray, hits: np.ndarray, threshold: float | None, first: int | None
) -> tuple[float | None, float | None, int | None]:
    """Precision, recall and the number of rows above a threshold, or of the first ones."""
    if threshold is None and first is None:
        return None, None, None
    if threshold is not None:
        if not isinstance(threshold, int | float) or math.isnan(threshold):
            raise ValueError(f"threshold got {shown(threshold)}; expected a number")
        above = ordered >= threshold
        found, taken = float(hits[above].sum()), int(above.sum())
    else:
        taken = check_count("first", first)
        if taken > len(ordered):
            raise ValueError(f"first got {taken}; there are {len(ordered)} rows")
        last = ordered[taken - 1]
        above, tied = ordered > last, ordered == last
        found = float(hits[above].sum() + hits[tied].mean() * (taken - above.sum()))
    return (found / taken if taken else None), found / float(hits.sum()), taken
