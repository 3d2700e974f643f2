"""Two-sample tests by classifiers: how well samples can be told from data."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks import check_choice, check_count, check_seed
from ...discrepancy import squared_distances
from ...extras import need
from ...models.shared.model import Model
from .neighbours import ROWS_AT_ONCE, tie_of
from .rows import check_same_width, rows_of

CLASSIFIERS = ("logistic", "nearest neighbour")

PERMUTATIONS_AT_ONCE = 100


class TwoSampleTest(NamedTuple):
    """How often a classifier tells samples from data; 1/2 where it cannot.

    Attributes:
        accuracy: the share of rows that it takes for what they are.
        on_data: the share of the data.
        on_samples: the share of the samples.
        p_value: the probability of an accuracy as far from chance if both sets have one law.
        classifier: the name of the classifier.
        n: the numbers of samples and of rows of data that were classified.
    """

    accuracy: float
    on_data: float
    on_samples: float
    p_value: float
    classifier: str
    n: tuple[int, int]


def two_sample_test(
    samples: Any, data: Any, classifier: str = "logistic", n: int | None = None, permutations: int = 500, seed: int = 0
) -> TwoSampleTest:
    r"""Whether a classifier tells samples from data (Lopez-Paz and Oquab 2017).

    ``"logistic"``: logistic regression on standardised columns (with a normal prior on weights, of variance one over the number
    of columns) learns from a random half of both sets, and is tested on the rest. Its number of right answers is binomial with
    one half if both sets have one law; the p-value is the probability of as many or more, exact.

    ``"nearest neighbour"``: every row is given to the set of its nearest other row; of several as near, by their shares. Copies
    of the data have both accuracies near 0, since a copy's nearest row is its original; where samples crowd in a part of the
    data, ``on_samples`` is high and ``on_data`` low (Xu et al. 2018). The p-value is by permutations of both sets, towards
    either side of chance.

    Files of data are often in some order, so that their first rows have a law of their own: rows are taken at random.

    Args:
        samples: a model, or rows.
        data: rows.
        classifier: ``"logistic"`` or ``"nearest neighbour"``.
        n: the most rows of either set; by default all, and as many of a model. Logistic regression takes as many of one as of
            the other.
        permutations: the number of random relabellings, for the nearest neighbour.
        seed: the seed of the choice of rows and of the relabellings.

    Raises:
        ValueError: rows of other widths, fewer than four of either set, or another classifier.

    Example:
        >>> x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
        >>> two_sample_test(x[:200] + 2, x[200:]).accuracy > 0.9
        True
    """
    check_choice("classifier", classifier, CLASSIFIERS)
    if classifier == "logistic":
        need("two_sample_test by logistic regression", "sklearn")
    check_count("permutations", permutations)
    generator = torch.Generator().manual_seed(check_seed(seed))
    real = rows_of(data, "data")
    most = None if n is None else check_count("n", n)
    made = rows_of(samples, "samples", len(real[:most]) if isinstance(samples, Model) else None)
    check_same_width(samples=made, data=real)
    made, real = (rows[torch.randperm(len(rows), generator=generator)[:most]].double() for rows in (made, real))
    if min(len(made), len(real)) < 4:
        raise ValueError(f"got {len(made)} samples and {len(real)} rows of data; expected at least four of either")
    if classifier == "logistic":
        fewest = min(len(made), len(real))
        return _logistic(made[:fewest], real[:fewest])
    return _nearest_neighbour(made, real, permutations, generator)


def _logistic(made: Tensor, real: Tensor) -> TwoSampleTest:
    """The test of as many samples as rows of data, which are in random order."""
    from scipy.stats import binomtest
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    half = len(made) // 2
    learned = torch.cat([made[:half], real[:half]]).numpy()
    # Weights of variance 1 / columns: before any data, log odds have a variance of one.
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=1 / made.shape[1], max_iter=2000))
    fitted.fit(learned, [1] * half + [0] * half)
    said = [fitted.predict(rows[half:].numpy()) for rows in (made, real)]
    on_samples, on_data = float((said[0] == 1).mean()), float((said[1] == 0).mean())
    right, count = int((said[0] == 1).sum() + (said[1] == 0).sum()), 2 * (len(made) - half)
    p_value = float(binomtest(right, count, alternative="greater").pvalue)
    tested = len(made) - half
    return TwoSampleTest(right / count, on_data, on_samples, p_value, "logistic", (tested, tested))


def _nearest_neighbour(made: Tensor, real: Tensor, permutations: int, generator: torch.Generator) -> TwoSampleTest:
    """The leave-one-out test, with the p-value of its accuracy by permutations."""
    shares = _neighbours(torch.cat([made, real]))
    labels = torch.zeros(permutations + 1, len(shares))
    labels[0, : len(made)] = 1.0
    for number in range(1, permutations + 1):
        labels[number, torch.randperm(len(shares), generator=generator)[: len(made)]] = 1.0
    found = torch.cat([_own(shares, part).double().mean(1) for part in labels.split(PERMUTATIONS_AT_ONCE)])
    n, m = len(made), len(real)
    chance = (n * (n - 1) + m * (m - 1)) / ((n + m) * (n + m - 1))
    off = (found - chance).abs()
    own = _own(shares, labels[:1])[0].double()
    return TwoSampleTest(
        float(found[0]), float(own[n:].mean()), float(own[:n].mean()), float((off >= off[0] - 1e-9).double().mean()),
        "nearest neighbour", (n, m),
    )  # fmt: skip


def _neighbours(rows: Tensor) -> Tensor:
    """The weights of every row's nearest other rows, which share 1: ``rows x rows``."""
    tie, found = tie_of(rows), []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        squares = squared_distances(rows[start : start + ROWS_AT_ONCE], rows)
        own = torch.arange(len(squares))
        squares[own, own + start] = torch.inf
        nearest = squares <= squares.amin(1, keepdim=True) + tie
        found.append(nearest.float() / nearest.sum(1, keepdim=True))
    return torch.cat(found)


def _own(shares: Tensor, labels: Tensor) -> Tensor:
    """The share of every row's nearest rows that have its label: ``labellings x rows``."""
    of_samples = labels @ shares.mT
    return torch.where(labels > 0, of_samples, 1 - of_samples)
