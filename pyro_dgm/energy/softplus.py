"""The compiled loop behind differences of softplus; imported at the first large one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from .loops import for_a_team, share, squash, sums

LIMIT = np.float32(0.25)
"""The largest step of a field that the series takes: its remainder is below 5e-9 nats an atom there (0.409 LIMIT⁷ / 7!),
less than single precision's rounding of the step itself."""

SHORT = np.float32(1 / 32)
"""The largest step for which its first three terms do: their remainder is below 5e-9 nats an atom too (SHORT⁴ / (8 · 4!))."""

_1, _2, _6, _24, _120, _720 = (np.float32(n) for n in (1, 2, 6, 24, 120, 720))
_12, _30 = np.float32(12), np.float32(30)


@sums
def _short(before: Any, after: Any, p: Any) -> Any:
    """Summed softplus(after) - softplus(before) by three terms about ``after``; ``p`` is its sigmoid."""
    total = np.float32(0)
    for j in range(after.size):
        d, q = after[j] - before[j], p[j]
        v = q * (_1 - q)
        total += d * (q - d * (v / _2 - d * (v * (_1 - _2 * q)) / _6))
    return total


@sums
def _beyond(before: Any, after: Any, limit: Any) -> Any:
    """How many steps are beyond a limit, or NaN."""
    far = np.int32(0)
    for j in range(after.size):
        far += np.int32(not (abs(after[j] - before[j]) <= limit))
    return far


@sums
def _long(before: Any, after: Any, p: Any) -> Any:
    r"""Summed softplus(after) - softplus(before) by six terms about ``after``.

    With ``p`` the sigmoid of ``after`` and $v = p (1 - p)$ the derivatives are p, v, v(1-2p), v(1-6v), v(1-2p)(1-12v) and
    v(1-30v+120v²).
    """
    total = np.float32(0)
    for j in range(after.size):
        d = after[j] - before[j]
        q = p[j]
        v = q * (_1 - q)
        w = v * (_1 - _2 * q)
        s = v * (_1 - _30 * v + _120 * v * v) / _720
        s = w * (_1 - _12 * v) / _120 - d * s
        s = v * (_1 - _6 * v) / _24 - d * s
        s = w / _6 - d * s
        s = v / _2 - d * s
        total += d * (q - d * s)
    return total


@for_a_team
def rise(data: Any) -> None:
    """Row sums of softplus(after) - softplus(before), for ``numbers`` of rows and columns and a zero.

    A step beyond ``LIMIT`` turns the zero into a one, and then there are no sums.
    """
    numbers = carray(data[0], 3, np.int64)
    shape = (numbers[0], numbers[1])
    before, after = carray(data[1], shape, np.float32), carray(data[2], shape, np.float32)
    summed, p = carray(data[3], numbers[0], np.float32), np.empty(numbers[1], np.float32)
    first, end = share(numbers[0])
    for i in range(first, end):
        if _beyond(before[i], after[i], LIMIT):
            numbers[2] = 1
            break
        squash(after[i], p)
        far = _beyond(before[i], after[i], SHORT)
        summed[i] = _long(before[i], after[i], p) if far else _short(before[i], after[i], p)
