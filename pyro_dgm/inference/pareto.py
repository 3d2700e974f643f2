"""The Pareto index of importance weights, which tells whether their mean can be trusted."""

from __future__ import annotations

import contextlib
from typing import Any

from torch import Tensor


def pareto(log_weights: Tensor, fewest: int = 100) -> dict[str, float]:
    r"""The Pareto index $\hat k$ of the importance weights of rows: how heavy their tails are (Vehtari et al. 2024).

    Above 0.7 the mean of the weights, and so the bound, depends on a few draws: the guide is too narrow somewhere.

    Args:
        log_weights: ``particles x rows``.
        fewest: the number of particles below which there is no tail to speak of.

    Returns:
        The median of $\hat k$ over the rows, and the share of rows above 0.7; empty with too few particles.

    Example:
        >>> import torch
        >>> figures = pareto(torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 0.1)
        >>> figures["pareto_k_above_0.7"]
        0.0
    """
    if len(log_weights) < fewest:
        return {}
    import warnings

    import numpy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        k = _indices(log_weights.T.double().cpu().numpy())
    equal = (log_weights.max(0).values - log_weights.min(0).values < 1e-6).cpu().numpy()
    k = numpy.where(equal, 0.0, numpy.clip(k, None, 10.0))  # equal weights have no tail; an infinite index counts as 10
    return {"pareto_k_median": float(numpy.median(k)), "pareto_k_above_0.7": float((k > 0.7).mean())}


def _indices(log_weights: Any) -> Any:
    """The Pareto index of every row of log-weights, by the installed version of ArviZ."""
    import arviz

    if hasattr(arviz, "psislw"):
        return arviz.psislw(log_weights)[1]
    import numpy
    from arviz_stats.base import array_stats  # ArviZ 1.0, whose function takes log-likelihoods: the weights' negatives

    found = numpy.zeros(len(log_weights))
    for number, row in enumerate(log_weights):
        with contextlib.suppress(ValueError):  # a tail of equal numbers
            found[number] = array_stats.psislw(-row)[1]
    return numpy.where(
        numpy.isnan(found), numpy.inf, found
    )  # no fit: all but a few weights are nothing beside the largest
