"""The mean weight of annealing runs, and bridge sampling between runs in both directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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


def log_mean_exp(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean weight along the first dimension, and its standard error by the delta method."""
    count = log_weight.shape[0]
    mean = torch.logsumexp(log_weight, 0) - math.log(count)
    relative = torch.exp(log_weight - mean)
    return mean, relative.std(0) / math.sqrt(count) if count > 1 else torch.full_like(mean, math.inf)
