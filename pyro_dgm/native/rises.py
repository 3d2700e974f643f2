"""The compiled loop that weighs a change of temperature and draws at the new one; imported at the first large layer.

The team's members share the rows. For each row the loop computes logits at the new temperature, steps, bits, and then the
summed rise. The rise takes as short a series about the new logits as the row's largest step allows, so that the sigmoid that
the bits needed serves the weights too. A row's arrays stay in the first-level cache, and the bits take the memory of its
fields. Cost: hardly more than the bits alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray

from .draw_vectors import WORDS, write_word
from .machine_code import compiled, sums, vectors
from .random_bits import copy, draw_word, increment, interpolate, padded, stream
from .team import for_a_team, own_part
from .vectors import BYTES, TILE

LIMIT = np.float32(0.25)
"""The largest step of a field that the series takes: its remainder is below 5e-9 nats per atom there (0.409 LIMIT⁷ / 7!),
less than single precision's rounding of the step itself."""

SHORT = np.float32(1 / 32)
"""The largest step for which its first three terms suffice: their remainder is below 5e-9 nats per atom (SHORT⁴ / (8 · 4!))."""

_0 = np.float32(0)
_1, _2, _6, _24, _120, _720 = (np.float32(n) for n in (1, 2, 6, 24, 120, 720))
_12, _30 = np.float32(12), np.float32(30)


@sums
def _beyond(steps: Any, limit: Any) -> Any:
    """The number of steps that are beyond a limit or NaN."""
    far = _0
    for j in range(steps.size):
        far += _0 if abs(steps[j]) <= limit else _1
    return far


@sums
def _short(steps: Any, p: Any) -> Any:
    """The sum of A(eta) - A(eta - step) by three terms about eta; ``p`` is its sigmoid."""
    total = _0
    for j in range(steps.size):
        d, q = steps[j], p[j]
        v = q * (_1 - q)
        total += d * (q - d * (v / _2 - d * (v * (_1 - _2 * q)) / _6))
    return total


@sums
def _long(steps: Any, p: Any) -> Any:
    r"""The same sum by six terms.

    With $v = p (1 - p)$ the derivatives are p, v, v(1-2p), v(1-6v), v(1-2p)(1-12v) and v(1-30v+120v²).
    """
    total = _0
    for j in range(steps.size):
        d, q = steps[j], p[j]
        v = q * (_1 - q)
        w = v * (_1 - _2 * q)
        s = v * (_1 - _30 * v + _120 * v * v) / _720
        s = w * (_1 - _12 * v) / _120 - d * s
        s = v * (_1 - _6 * v) / _24 - d * s
        s = w / _6 - d * s
        s = v / _2 - d * s
        total += d * (q - d * s)
    return total


@compiled
def _plain(steps: Any, eta: Any) -> Any:
    """The same sum without a series, for steps of any size; NaN where one of them is."""
    total = 0.0
    for j in range(steps.size):
        high = np.float64(eta[j])
        low = high - np.float64(steps[j])
        total += max(high, 0.0) - max(low, 0.0) + math.log1p(math.exp(-abs(high))) - math.log1p(math.exp(-abs(low)))
    return total


@vectors
def _scaled(factor: Any, fields: Any, steps: Any) -> None:
    for j in range(fields.size):
        steps[j] = factor * fields[j]


@vectors
def _reciprocals(inverse: Any, p: Any) -> None:
    for j in range(p.size):
        p[j] = _1 / inverse[j]


@for_a_team
def weigh_and_draw(data: Any) -> None:
    """Write the rises of this member's rows, and bits over their fields.

    Behind the pointers: numbers of rows, columns and bases, which rows take in turn; inverse temperatures before and after; the
    bases; fields; rises; two seeds.
    """
    numbers, betas = carray(data[0], 3, np.int64), carray(data[1], 2, np.float64)
    rows, columns, bases = numbers[0], numbers[1], numbers[2]
    base, fields = carray(data[2], (bases, columns), np.float32), carray(data[3], (rows, columns), np.float32)
    summed, seeds = carray(data[4], rows, np.float32), carray(data[5], 2, np.uint64)
    after, step, gamma = np.float32(betas[1]), np.float32(betas[1] - betas[0]), increment(seeds[1])
    width = padded(columns)
    eta, steps, p = np.zeros(width, np.float32), np.zeros(width, np.float32), np.empty(width, np.float32)
    inverse, bits = np.empty(width, np.float32), np.empty(width, np.float32)
    first, end = own_part(rows)
    for i in range(first, end):
        interpolate(base[i % bases], fields[i], after, eta)
        _scaled(step, fields[i], steps)
        state = stream(seeds[0], gamma, i, width)
        ties = state + gamma * np.uint64(width // 4)
        for row in range(width // TILE):
            place = inverse.ctypes.data + row * BYTES
            ones, ties = draw_word(eta.ctypes.data + row * BYTES, state, ties, gamma, place)
            write_word(ones, bits.ctypes.data + row * BYTES)
            state += gamma * np.uint64(WORDS)
        _reciprocals(inverse, p)
        if _beyond(steps, SHORT) == _0:
            summed[i] = _short(steps, p)
        elif _beyond(steps, LIMIT) == _0:
            summed[i] = _long(steps, p)
        else:
            summed[i] = _plain(steps, eta)
        copy(bits, fields[i])
