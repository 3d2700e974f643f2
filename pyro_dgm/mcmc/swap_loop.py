"""The compiled loop over pairs of replicas; imported at the first step of tempered chains."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..energy.bits import increment, mix
from ..energy.loops import compiled


@compiled
def swap(betas: Any, gap: Any, seeds: Any, from_base: Any, trips: Any) -> Any:
    """What ``swaps`` returns, by uniform numbers from the stream that ``seeds`` start.

    Arrays are ``chains x temperatures x batch``, ``trips`` without temperatures.
    """
    chains, temperatures, batch = gap.shape
    order, source = np.empty(gap.shape, np.int64), np.empty(gap.shape, np.int64)
    rate, climbing, climbed = np.zeros(temperatures - 1), np.empty_like(from_base), np.empty_like(trips)
    words = seeds.view(np.uint64)
    state, gamma = words[0], increment(words[1])
    for c in range(chains):
        for b in range(batch):
            for t in range(temperatures):
                order[c, t, b] = t
            for parity in range(2):
                for t in range(parity, temperatures - 1, 2):
                    here, above = order[c, t, b], order[c, t + 1, b]
                    change = np.float64(betas[t + 1] - betas[t]) * np.float64(gap[c, here, b] - gap[c, above, b])
                    probability = math.exp(min(change, 0.0))
                    rate[t] += probability
                    state += gamma
                    if np.float64(mix(state) >> np.uint64(11)) * 2.0**-53 < probability:
                        order[c, t, b], order[c, t + 1, b] = above, here
            for t in range(temperatures):
                source[c, t, b] = (c * temperatures + order[c, t, b]) * batch + b
                climbing[c, t, b] = from_base[c, order[c, t, b], b]
            climbed[c, b] = trips[c, b] + climbing[c, temperatures - 1, b]
            climbing[c, temperatures - 1, b] = False
            climbing[c, 0, b] = True
    return source, rate / (chains * batch), climbing, climbed, order
