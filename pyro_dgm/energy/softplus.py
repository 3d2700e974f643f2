"""The compiled loop that weighs a change of temperature and draws at the new one; imported at the first large layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray

from .bits import draw_by_logits, increment, interpolate, stream
from .loops import compiled, for_a_team, share, sums, vectors

LIMIT = np.float32(0.25)
"""The largest step of a field that the series takes: its remainder is below 5e-9 nats an atom there (0.409 LIMIT⁷ / 7!),
less than single precision's rounding of the step itself."""

SHORT = np.float32(1 / 32)
"""The largest step for which its first three terms do: their remainder is below 5e-9 nats an atom too (SHORT⁴ / (8 · 4!))."""

_0 = np.float32(0)
_1, _2, _6, _24, _120, _720 = (np.float32(n) for n in (1, 2, 6, 24, 120, 720))
_12, _30 = np.float32(12), np.float32(30)


@sums
def _beyond(step: Any, fields: Any, limit: Any) -> Any:
    """How many steps are beyond a limit, or NaN."""
    far = _0
    for j in range(fields.size):
        far += _0 if abs(step * fields[j]) <= limit else _1
    return far


@sums
def _short(step: Any, fields: Any, p: Any) -> Any:
    """Summed A(eta) - A(eta - step fields) by three terms about eta; ``p`` is its sigmoid."""
    total = _0
    for j in range(fields.size):
        d, q = step * fields[j], p[j]
        v = q * (_1 - q)
        total += d * (q - d * (v / _2 - d * (v * (_1 - _2 * q)) / _6))
    return total


@sums
def _long(step: Any, fields: Any, p: Any) -> Any:
    r"""The same by six terms.

    With $v = p (1 - p)$ the derivatives are p, v, v(1-2p), v(1-6v), v(1-2p)(1-12v) and v(1-30v+120v²).
    """
    total = _0
    for j in range(fields.size):
        d, q = step * fields[j], p[j]
        v = q * (_1 - q)
        w = v * (_1 - _2 * q)
        s = v * (_1 - _30 * v + _120 * v * v) / _720
        s = w * (_1 - _12 * v) / _120 - d * s
        s = v * (_1 - _6 * v) / _24 - d * s
        s = w / _6 - d * s
        s = v / _2 - d * s
        total += d * (q - d * s)
    return total


@vectors
def _reciprocals(inverse: Any, p: Any) -> None:
    for j in range(p.size):
        p[j] = _1 / inverse[j]


@compiled
def _plain(step: Any, fields: Any, eta: Any) -> Any:
    """The same without series, however large the steps; not a number where one of them is not."""
    total = 0.0
    for j in range(fields.size):
        high = np.float64(eta[j])
        low = high - np.float64(step) * np.float64(fields[j])
        total += max(high, 0.0) - max(low, 0.0) + math.log1p(math.exp(-abs(high))) - math.log1p(math.exp(-abs(low)))
    return total


@for_a_team
def weigh_and_draw(data: Any) -> None:
    """For numbers of rows and columns, and for the temperatures before and after: the rows' rises, and bits over the fields."""
    numbers, betas = carray(data[0], 2, np.int64), carray(data[1], 2, np.float64)
    rows, columns = numbers[0], numbers[1]
    base, fields = carray(data[2], columns, np.float32), carray(data[3], (rows, columns), np.float32)
    summed, seeds = carray(data[4], rows, np.float32), carray(data[5], 2, np.uint64)
    after, step = np.float32(betas[1]), np.float32(betas[1] - betas[0])
    p, eta, inverse, bits = np.empty_like(base), np.empty_like(base), np.empty_like(base), np.empty_like(base)
    words, gamma = np.empty((columns + 3) // 4, np.uint64), increment(seeds[1])
    first, end = share(rows)
    for i in range(first, end):
        interpolate(base, fields[i], after, eta)
        draw_by_logits(eta, bits, words, inverse, stream(seeds[0], gamma, i, columns), gamma)
        if _beyond(step, fields[i], LIMIT) > _0:
            summed[i] = _plain(step, fields[i], eta)
        else:
            _reciprocals(inverse, p)
            far = _beyond(step, fields[i], SHORT) > _0
            summed[i] = _long(step, fields[i], p) if far else _short(step, fields[i], p)
        fields[i] = bits
