"""The compiled loop over pairs of replicas; imported at the first step of tempered chains."""

from __future__ import annotations

import math
from typing import Any

from ..energy.loops import compiled


@compiled
def swap(betas: Any, gap: Any, thresholds: Any, order: Any, rate: Any) -> None:
    """Fill in what ``swaps`` returns, from logs of uniform numbers; arrays are ``chains x temperatures x batch``."""
    chains, temperatures, batch = gap.shape
    rate[:] = 0
    for c in range(chains):
        for b in range(batch):
            for t in range(temperatures):
                order[c, t, b] = t
            for parity in range(2):
                for t in range(parity, temperatures - 1, 2):
                    here, above = order[c, t, b], order[c, t + 1, b]
                    change = (betas[t + 1] - betas[t]) * (gap[c, here, b] - gap[c, above, b])
                    rate[t] += math.exp(min(change, 0.0))
                    if thresholds[c, t, b] < change:
                        order[c, t, b], order[c, t + 1, b] = above, here
    for t in range(temperatures - 1):
        rate[t] /= chains * batch
