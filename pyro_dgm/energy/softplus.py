"""The compiled loop behind differences of softplus; imported at the first large one."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

LIMIT = np.float32(0.25)
"""The largest step of a field that the series takes: its remainder is below 5e-9 nats an atom there (0.409 LIMIT⁷ / 7!),
less than single precision's rounding of the step itself."""

_1, _2, _6, _24, _120, _720 = (np.float32(n) for n in (1, 2, 6, 24, 120, 720))
_12, _30 = np.float32(12), np.float32(30)


def _rise(before: Any, after: Any, p: Any, summed: Any) -> bool:
    r"""Row sums of softplus(after) - softplus(before) by a Taylor series about ``after``, where ``p`` is its sigmoid.

    With $v = p (1 - p)$ the derivatives are p, v, v(1-2p), v(1-6v), v(1-2p)(1-12v) and v(1-30v+120v²). Returns False, and no
    result, where a step is beyond ``LIMIT`` or NaN.
    """
    for i in range(after.shape[0]):
        total, far = np.float32(0), 0
        for j in range(after.shape[1]):
            d = after[i, j] - before[i, j]
            q = p[i, j]
            v = q * (_1 - q)
            w = v * (_1 - _2 * q)
            s = v * (_1 - _30 * v + _120 * v * v) / _720
            s = w * (_1 - _12 * v) / _120 - d * s
            s = v * (_1 - _6 * v) / _24 - d * s
            s = w / _6 - d * s
            s = v / _2 - d * s
            total += d * (q - d * s)
            far += not (abs(d) <= LIMIT)
        if far:
            return False
        summed[i] = total
    return True


def _compiled(function: Any) -> Any:
    """Machine code that may reorder the sums, so that they are vectorised, and survives the process where it can."""
    try:
        return numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "arcp"})(function)
    except RuntimeError:
        return numba.njit(nogil=True, fastmath={"reassoc", "contract", "arcp"})(function)


rise = _compiled(_rise)
