"""The compiled loop that weighs a change of temperature and draws at the new one; imported at the first large layer.

The team's members share the rows. For each row the loop computes logits at the new temperature, and then bits and rises of 32
columns at a time. A rise is a series about the new logits where the steps are small, so that the sigmoid that the bits needed
serves the weights too. A row's arrays stay in the first-level cache, and the bits take the memory of its fields. Cost: hardly
more than the bits alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray

from .draw_vectors import WORDS, number_at, write_word
from .machine_code import compiled, inlined
from .random_bits import copy, draw_word, increment, interpolate, padded, stream
from .rise_vectors import rise_row
from .team import for_a_team, own_part
from .vectors import BYTES, TILE


@compiled
def plain_rise(change: Any, field: Any, step: Any, eta: Any) -> Any:
    """The sum of A(eta) - A(eta - step (change + field)) without a series, for steps of any size; NaN where one of them is.

    All but the step are addresses of 32 numbers.
    """
    total = 0.0
    for j in range(TILE):
        high = np.float64(number_at(eta + 4 * j))
        low = high - np.float64(step * (number_at(change + 4 * j) + number_at(field + 4 * j)))
        total += max(high, 0.0) - max(low, 0.0) + math.log1p(math.exp(-abs(high))) - math.log1p(math.exp(-abs(low)))
    return total


@inlined
def rise(inverse: Any, change: Any, field: Any, step: Any, eta: Any) -> Any:
    """The same, by a series if all steps allow it; ``inverse`` is the address of 1 / p for the sigmoids p of eta."""
    total, beyond = rise_row(inverse, change, field, step)
    return plain_rise(change, field, step, eta) if beyond else np.float64(total)


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
    eta, own, nothing = np.zeros(width, np.float32), np.zeros(width, np.float32), np.zeros(TILE, np.float32)
    inverse, bits = np.empty(TILE, np.float32), np.empty(width, np.float32)
    first, end = own_part(rows)
    for i in range(first, end):
        copy(fields[i], own[:columns])
        interpolate(base[i % bases], fields[i], after, eta)
        state, total = stream(seeds[0], gamma, i, width), 0.0
        ties = state + gamma * np.uint64(width // 4)
        for row in range(width // TILE):
            logits = eta.ctypes.data + row * BYTES
            ones, ties = draw_word(logits, state, ties, gamma, inverse.ctypes.data)
            write_word(ones, bits.ctypes.data + row * BYTES)
            state += gamma * np.uint64(WORDS)
            field = own.ctypes.data + row * BYTES
            total += rise(inverse.ctypes.data, nothing.ctypes.data, field, step, logits)
        summed[i] = total
        copy(bits, fields[i])
