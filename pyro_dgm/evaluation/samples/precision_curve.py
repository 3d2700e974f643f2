"""Precision and recall of samples as a curve, which tells what is lost from what is made up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...checks import check_count, check_seed, described, shown
from ...extras import need
from ...models.shared.model import Model
from .rows import check_same_width, rows_of

ANGLES = 1001


class PrecisionCurve(NamedTuple):
    r"""Precision and recall for every weight of the one against the other.

    Attributes:
        precision: $\alpha$, ``angles``: from 0 up.
        recall: $\beta$, ``angles``: down to 0.
        f_recall: the largest $F_8$, which weighs recall: low where kinds of rows are missing.
        f_precision: the largest $F_{1/8}$, which weighs precision: low where samples are like no data.
    """

    precision: Tensor
    recall: Tensor
    f_recall: float
    f_precision: float


def prd_of_laws(p: Any, q: Any, slopes: Sequence[float] | Tensor) -> tuple[Tensor, Tensor]:
    r"""Precision and recall of a law q against p on a finite set (Sajjadi et al. 2018).

    $\alpha(\lambda) = \sum_i \min(\lambda p_i, q_i)$ and $\beta(\lambda) = \alpha(\lambda) / \lambda$.

    Args:
        p: probabilities of data, ``states``.
        q: probabilities of samples.
        slopes: the numbers $\lambda$, above 0.

    Returns:
        $\alpha$ and $\beta$, a number a slope.

    Raises:
        ValueError: numbers that are no probabilities, laws on other sets, or slopes that are not positive.

    Example:
        >>> prd_of_laws([0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [1.0])
        (tensor([0.5000], dtype=torch.float64), tensor([0.5000], dtype=torch.float64))
    """
    laws = [_numbers("p", p), _numbers("q", q)]
    for name, law in zip("pq", laws, strict=True):
        if law.dim() != 1 or not bool((law >= 0).all()) or not abs(float(law.sum()) - 1) < 1e-6:
            raise ValueError(f"{name} got numbers of shape {tuple(law.shape)} that are no probabilities with the sum 1")
    if len(laws[0]) != len(laws[1]):
        raise ValueError(f"p has {len(laws[0])} states and q {len(laws[1])}; expected laws on one set")
    steep = _numbers("slopes", slopes)
    if steep.dim() != 1 or not bool(((steep > 0) & steep.isfinite()).all()):
        raise ValueError(f"slopes got {shown(slopes)}; expected positive numbers")
    precision = torch.minimum(steep.unsqueeze(1) * laws[0], laws[1]).sum(1)
    return precision, precision / steep


def _numbers(name: str, values: Any) -> Tensor:
    try:
        return torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} got {described(values)}; expected a sequence of numbers") from None


def precision_curve(
    samples: Any, data: Any, clusters: int = 20, runs: int = 10, n: int | None = None, seed: int = 0
) -> PrecisionCurve:
    r"""The curve of precision and recall of samples against data (Sajjadi et al. 2018).

    Both sets together are divided into clusters by k-means, and the curve is ``prd_of_laws`` of the shares of both sets in
    every cluster, at the slopes $\tan(\pi i / 2 \cdot 1002)$; it is the mean over divisions from several starts.

    Args:
        samples: a model, or rows.
        data: rows.
        clusters: the number of clusters.
        runs: the number of divisions.
        n: the number of rows of either set, taken at random; by default as many as the smaller has.
        seed: the seed of the choice and of the divisions.

    Raises:
        ValueError: rows of other widths, or fewer rows than clusters.

    Example:
        >>> x = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
        >>> round(precision_curve(x, x, clusters=5, runs=1).f_recall, 6)
        1.0
    """
    need("precision_curve", "sklearn")
    from sklearn.cluster import KMeans

    check_count("clusters", clusters, 2)
    check_count("runs", runs)
    generator = torch.Generator().manual_seed(check_seed(seed))
    real = rows_of(data, "data")
    made = rows_of(samples, "samples", (n or len(real)) if isinstance(samples, Model) else None)
    check_same_width(samples=made, data=real)
    count = min(len(real), len(made)) if n is None else check_count("n", n)
    if min(len(real), len(made)) < max(count, clusters):
        raise ValueError(
            f"got {len(made)} samples and {len(real)} rows of data; expected at least {max(count, clusters)} of either"
        )
    made, real = (rows[torch.randperm(len(rows), generator=generator)[:count]] for rows in (made, real))
    rows = torch.cat([made, real]).numpy()
    slopes = (torch.arange(1, ANGLES + 1, dtype=torch.float64) * (math.pi / 2 / (ANGLES + 1))).tan()
    curves = []
    for run in range(runs):
        found = KMeans(clusters, n_init=1, random_state=(seed + run) % 2**32).fit_predict(rows)
        of_samples, of_data = (np.bincount(part, minlength=clusters) / count for part in np.split(found, 2))
        curves.append(torch.stack(prd_of_laws(of_data, of_samples, slopes)))
    precision, recall = torch.stack(curves).mean(0).unbind(0)
    return PrecisionCurve(precision, recall, *(_largest_f(precision, recall, beta) for beta in (8.0, 1 / 8)))


def _largest_f(precision: Tensor, recall: Tensor, beta: float) -> float:
    """The largest F score on the curve; a beta above 1 weighs recall."""
    both = (beta**2 * precision + recall).clamp_min(torch.finfo(precision.dtype).tiny)
    return float(((1 + beta**2) * precision * recall / both).max())
