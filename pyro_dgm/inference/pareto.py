"""The Pareto index of importance weights, which tells whether their mean can be trusted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST = 10.0
"""What an infinite index counts as."""

FEWEST = 5
"""The fewest weights of a tail to which a law is fitted; with fewer one weight is all, and the index infinite."""

PRIOR = 10, 0.5
"""The prior of the index: as much as so many draws of a tail of that index."""

ROWS_AT_ONCE = 256
"""Rows whose tails are fitted together."""


def indices(log_weights: Tensor) -> Tensor:
    r"""The Pareto index $\hat k$ of the importance weights of every row: how heavy their tail is (Vehtari et al. 2024).

    Above 0.7 the mean of the weights, and so the bound, depends on a few draws: the guide is too narrow somewhere. The tail is
    the largest $\min(S / 5, 3 \sqrt S)$ of $S$ weights; by how much they exceed the next one is taken for draws of a generalised
    Pareto distribution, whose index is estimated as Zhang and Stephens (2009) do and drawn a little towards 1/2.

    Args:
        log_weights: ``particles x rows``.

    Returns:
        one index per row; 0 for equal weights, and 10 at most.

    Example:
        >>> indices(torch.zeros(1000, 2))
        tensor([0., 0.], dtype=torch.float64)
    """
    rows = log_weights.detach().T.cpu().double()
    particles = rows.shape[1]
    tail = math.ceil(min(particles / 5, 3 * math.sqrt(particles)))
    relative = (rows - rows.max(1, keepdim=True).values).exp()
    top = relative.topk(min(tail + 1, particles), 1).values.flip(1)
    floor = top[:, :1].clamp_min(torch.finfo(torch.float64).tiny)
    excess = top[:, 1:] - floor
    counts = (excess > 0).sum(1)  # equal weights at the floor do not exceed it
    k = torch.full_like(counts, torch.inf, dtype=torch.float64)
    for count in counts.unique().tolist():
        if count >= FEWEST:
            alike = (counts == count).nonzero()[:, 0]
            for some in alike.split(ROWS_AT_ONCE):
                k[some] = _shape(excess[some, -count:])
    equal = log_weights.max(0).values - log_weights.min(0).values < 1e-6  # they have no tail
    return torch.where(equal.cpu(), 0.0, k.clamp_max(LARGEST))


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


def _shape(excess: Tensor) -> Tensor:
    r"""The index of a generalised Pareto distribution that positive numbers are drawn from, row by row.

    With $\theta = -k / \sigma$ the likelihood is greatest over $k$ at $k(\theta)$, the mean of $\log(1 - \theta x_i)$.
    $\theta$ is the mean of a grid of values, weighted by that likelihood, $n [\log(-\theta / k(\theta)) - k(\theta) - 1]$.

    Args:
        excess: ``rows x n``, every row in rising order.
    """
    n = excess.shape[1]
    size = 30 + math.isqrt(n)
    places = 1 - (size / (torch.arange(size, dtype=excess.dtype) + 0.5)).sqrt()
    quartile = excess[:, math.floor(n / 4 + 0.5) - 1]
    theta = 1 / excess[:, -1:] + places / (3 * quartile[:, None])
    k = (-theta[..., None] * excess[:, None]).log1p().mean(-1)
    rate = torch.where(k.abs() < 1e-12, 1 / excess.mean(1, keepdim=True), -theta / k)  # k = 0: an exponential
    mean = ((n * (rate.log() - k)).softmax(1) * theta).sum(1, keepdim=True)
    count, centre = PRIOR
    return (n * (-mean * excess).log1p().mean(1) + count * centre) / (n + count)
