"""The compiled loop behind random bits on the processor; imported at the first large draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

BLOCK = 1024
"""Draws made at once: their random words stay in the first-level cache."""

_U64 = np.uint64
_ALTERNATING = _U64(0xAAAAAAAAAAAAAAAA)


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Machine code that survives the process where some folder can be written; options are Numba's."""
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(nogil=True, **options)(function)


@compiled
def mix(z: Any) -> Any:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> _U64(27))) * _U64(0x94D049BB133111EB)
    return z ^ (z >> _U64(31))


@compiled
def increment(word: Any) -> Any:
    """An odd increment with enough changes between neighbouring bits: it names one of 2^63 streams."""
    gamma = mix(word) | _U64(1)
    changes, rest = 0, gamma ^ (gamma >> _U64(1))
    while rest:
        rest &= rest - _U64(1)
        changes += 1
    return gamma ^ _ALTERNATING if changes < 24 else gamma


@compiled
def decide(p: Any, lanes: Any, state: Any, gamma: Any) -> Any:
    """Overwrite probabilities by bits: 16 random bits against p, and a double where they tie; returns the state."""
    scale, one, zero = p.dtype.type(65536), p.dtype.type(1), p.dtype.type(0)
    ties = 0
    for i in range(p.size):
        threshold = p[i] * scale
        whole = np.int32(threshold)
        ties += (np.int32(lanes[i]) == whole) and (threshold != p.dtype.type(whole))
    if ties == 0:
        for i in range(p.size):
            p[i] = one if np.int32(lanes[i]) < np.int32(p[i] * scale) else zero
        return state
    for i in range(p.size):
        threshold = p[i] * scale
        whole = np.int32(threshold)
        below = np.int32(lanes[i]) < whole
        if np.int32(lanes[i]) == whole:
            state += gamma
            uniform = np.float64(mix(state) >> _U64(11)) * 2.0**-53
            below = uniform < np.float64(threshold) - np.float64(whole)
        p[i] = one if below else zero
    return state


@compiled
def draw(p: Any, seed: Any, stream: Any) -> None:
    """Overwrite a flat array of probabilities by bits drawn with them, from the numbered stream of SplitMix64."""
    words = np.empty(BLOCK // 4, np.uint64)
    lanes = words.view(np.uint16)
    state, gamma = seed, increment(stream)
    for start in range(0, p.size, BLOCK):
        part = p[start : start + BLOCK]
        used = (part.size + 3) // 4
        for w in range(used):
            words[w] = mix(state + gamma * _U64(w + 1))
        state = decide(part, lanes, state + gamma * _U64(used), gamma)
