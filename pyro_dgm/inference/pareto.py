"""The Pareto index of importance weights, which tells whether their mean can be trusted."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import torch
from torch import Tensor

LARGEST = 10.0
"""What an infinite index counts as."""


def indices(log_weights: Tensor) -> Tensor:
    r"""The Pareto index $\hat k$ of the importance weights of every row: how heavy their tail is (Vehtari et al. 2024).

    Above 0.7 the mean of the weights, and so the bound, depends on a few draws: the guide is too narrow somewhere.

    Args:
        log_weights: ``particles x rows``.

    Returns:
        one index per row; 0 for equal weights, and 10 at most.

    Example:
        >>> indices(torch.zeros(1000, 2))
        tensor([0., 0.], dtype=torch.float64)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        k = torch.as_tensor(_indices(log_weights.detach().T.double().cpu().numpy()))
    equal = (log_weights.max(0).values - log_weights.min(0).values < 1e-6).cpu()  # they have no tail
    return torch.where(equal, 0.0, k.clamp_max(LARGEST))


def pareto(log_weights: Tensor, fewest: int = 100) -> dict[str, float]:
    r"""What ``indices`` says of all rows together.

    Args:
        log_weights: ``particles x rows``.
        fewest: the number of particles below which there is no tail to speak of.

    Returns:
        The median of $\hat k$ over the rows, and the share of rows above 0.7; empty with too few particles.

    Example:
        >>> figures = pareto(torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 0.1)
        >>> figures["pareto_k_above_0.7"]
        0.0
    """
    if len(log_weights) < fewest:
        return {}
    k = indices(log_weights)
    return {"pareto_k_median": float(k.quantile(0.5)), "pareto_k_above_0.7": float((k > 0.7).double().mean())}


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
    # No fit: all but a few weights are nothing beside the largest.
    return numpy.where(numpy.isnan(found), numpy.inf, found)
