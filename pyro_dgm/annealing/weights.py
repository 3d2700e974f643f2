"""The mean weight of annealing runs, and bridge sampling between runs in both directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_APART, _ALIKE = 3.0, 0.01
"""Two groups of runs disagree if their means differ by that many standard errors, and that many nats more."""

DEPENDS = "; the reverse end depends on where its chains start"
"""What is added to a method's name where the two groups of reverse runs disagree."""


def bridge(forward: Tensor, reverse: Tensor) -> tuple[Tensor, Tensor]:
    r"""$\ell = \log Z - \log Z_{base}$ by bridge sampling between whole annealing runs, and its standard error.

    With log weights $w_i$ of n forward and $v_j$ of n reverse runs the optimal bridge (Bennett 1976; Meng and Wong 1996)
    solves $\sum_i \sigma(w_i - \ell) = \sum_j \sigma(v_j + \ell)$: the forward runs that are taken for reverse runs weigh as
    much as the reverse runs that are taken for forward runs. The standard error is by the delta method, with the empirical
    variances of both sides.

    Args:
        forward: log weights of ``forward_ais``, ``n x batch_shape``.
        reverse: log weights of ``reverse_ais`` from draws of the machine, of the same shape.
    """
    up, down = forward.double(), -reverse.double()
    both = torch.cat([up, down])
    low, high = both.amin(0), both.amax(0)
    # The left side minus the right falls as l grows, and its root lies between the extreme log weights.
    while bool((high - low > 1e-12 * (1 + low.abs())).any()):
        middle = (low + high) / 2
        if bool(((middle == low) | (middle == high)).all()):
            break
        above = torch.sigmoid(up - middle).sum(0) < torch.sigmoid(middle - down).sum(0)
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    root = (low + high) / 2
    a, b = torch.sigmoid(up - root), torch.sigmoid(root - down)
    slope = (a * (1 - a)).sum(0) + (b * (1 - b)).sum(0)
    variance = len(a) * (a.var(0) + b.var(0)) / slope.square()
    return root.to(forward), variance.sqrt().to(forward)


def end_by_start(ends: Tensor, elsewhere: Tensor | None) -> tuple[Tensor, Tensor, bool]:
    r"""The mean over reverse runs of $-\log w$, its standard error, and whether it depends on where the runs start.

    Runs from one mode of mass m have $-E[\log w] \ge \log Z / Z_{base} + \log m$ only, so that runs which start in a light mode
    and never leave it end far below. Where two groups of runs, with other starts, disagree by more than their errors
    explain, the larger mean is the one above.

    Args:
        ends: $-\log w$ of every run, ``n x batch_shape``.
        elsewhere: booleans, the runs of the second group; None where all start at the model's distribution.
    """
    mean, error = ends.mean(0), ends.std(0) / math.sqrt(len(ends))
    if elsewhere is None or not 2 <= int(elsewhere.sum()) <= len(ends) - 2:
        return mean, error, False
    groups = ends[~elsewhere], ends[elsewhere]
    (a, b), (error_a, error_b) = ([g.mean(0) for g in groups], [g.std(0) / math.sqrt(len(g)) for g in groups])
    apart = (a - b).abs() > _APART * torch.hypot(error_a, error_b) + _ALIKE
    mean = torch.where(apart, torch.maximum(a, b), mean)
    error = torch.where(apart, torch.where(a > b, error_a, error_b), error)
    return mean, error, bool(apart.any())


def log_mean_exp(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean weight along the first dimension, and its standard error by the delta method."""
    count = log_weight.shape[0]
    mean = torch.logsumexp(log_weight, 0) - math.log(count)
    relative = torch.exp(log_weight - mean)
    return mean, relative.std(0) / math.sqrt(count) if count > 1 else torch.full_like(mean, math.inf)
