"""Sums of log-probabilities and divergences over all rows, by single operations where torch has them."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import Bernoulli, Independent
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def summed_log_prob(fn: Any, value: Tensor) -> Tensor:
    r"""$\sum \log p(x)$ over the batch shape, in nats.

    Example:
        >>> fn = Bernoulli(logits=torch.tensor([[0.0, 1.0]])).to_event(1)
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
        >>> torch.allclose(summed_log_prob(fn, x), fn.log_prob(x).sum())
        True
    """
    base = fn.base_dist if type(fn) is Independent else fn
    if type(base) is Bernoulli:
        logits = base.logits
        if logits.shape != value.shape:
            logits, value = torch.broadcast_tensors(logits, value)
        return -binary_cross_entropy_with_logits(logits, value, reduction="sum")
    total: Tensor = fn.log_prob(value).sum()
    return total
