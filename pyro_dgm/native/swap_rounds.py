"""The compiled loops over pairs of replicas; imported at the first step of tempered chains.

A round takes a few comparisons per replica, too few to share. Chains go one after another; within a chain the even pairs of
neighbours go first, then the odd ones. Cost: one exponential and one uniform number per pair.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .machine_code import compiled
from .random_bits import increment, uniform


@compiled
def swap_round(betas: Any, gap: Any, order: Any, rate: Any, state: Any, gamma: Any) -> Any:
    """Swap even and then odd neighbours among the replicas of one chain; returns the random stream's state.

    ``gap[t]`` is D of the replica that was at temperature t; ``order[t]`` becomes the temperature that the replica now at t
    comes from, and ``rate[t]`` grows by the probability that t and t + 1 swap.
    """
    for t in range(betas.size):
        order[t] = t
    for parity in range(2):
        for t in range(parity, betas.size - 1, 2):
            below, above = order[t], order[t + 1]
            probability = math.exp(min((betas[t + 1] - betas[t]) * (gap[below] - gap[above]), 0.0))
            rate[t] += probability
            state += gamma
            if uniform(state) < probability:
                order[t], order[t + 1] = above, below
    return state


@compiled
def climb(order: Any, before: Any, after: Any) -> Any:
    """Fill in which replicas of a chain were last at the lowest inverse temperature; returns whether one came up from there."""
    last = order.size - 1
    for t in range(order.size):
        after[t] = before[order[t]]
    arrived = np.int64(after[last])
    after[last], after[0] = 0, 1
    return arrived


@compiled
def swap(betas: Any, gap: Any, seeds: Any, from_base: Any, trips: Any) -> Any:
    """A round of swaps of every chain: source, rate, from_base, trips and order, as ``swap_replicas`` returns them.

    Arrays are ``chains x temperatures x batch``, ``trips`` without temperatures; ``betas`` and ``gap`` in double precision.
    """
    chains, temperatures, batch = gap.shape
    order, source = np.empty(gap.shape, np.int64), np.empty(gap.shape, np.int64)
    rate, climbing, climbed = np.zeros(temperatures - 1), np.empty_like(from_base), trips.copy()
    chain_gap, chain_order = np.empty(temperatures), np.empty(temperatures, np.int64)
    words = seeds.view(np.uint64)
    state, gamma = words[0], increment(words[1])
    for c in range(chains):
        for b in range(batch):
            for t in range(temperatures):
                chain_gap[t] = gap[c, t, b]
            state = swap_round(betas, chain_gap, chain_order, rate, state, gamma)
            climbed[c, b] += climb(chain_order, from_base[c, :, b], climbing[c, :, b])
            for t in range(temperatures):
                order[c, t, b] = chain_order[t]
                source[c, t, b] = (c * temperatures + chain_order[t]) * batch + b
    return source, rate / (chains * batch), climbing, climbed, order
