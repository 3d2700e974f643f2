"""Log-probabilities of rows of independent bits and their derivatives by the logits, in one compiled pass.

Torch takes some six passes. The logarithm of a product of factors between 1 and 2 stands for the sum of their logarithms: one
logarithm per ``BLOCK`` columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray

from .exponential import exponential
from .machine_code import compiled, sums, vectors
from .team import for_a_team, own_part

BLOCK = 96
"""Columns whose factors are multiplied: at most 2^96, which single precision holds."""

_0, _1 = np.float32(0), np.float32(1)


@vectors
def _slopes(logits: Any, bits: Any, slopes: Any, factors: Any) -> None:
    """Write the derivatives x - sigmoid(l), and 1 + exp(-|l|)."""
    for j in range(logits.size):
        logit = logits[j]
        small = exponential(-abs(logit))
        factor = _1 + small
        slopes[j] = bits[j] - (_1 if logit >= _0 else small) / factor
        factors[j] = factor


@sums
def _linear(logits: Any, bits: Any) -> Any:
    """The sum of x l - max(l, 0)."""
    total = _0
    for j in range(logits.size):
        logit = logits[j]
        total += bits[j] * logit - (logit if logit > _0 else _0)
    return total


@sums
def _product(factors: Any) -> Any:
    product = _1
    for j in range(factors.size):
        product *= factors[j]
    return product


@compiled
def weigh_row(logits: Any, bits: Any, slopes: Any, factors: Any) -> Any:
    """The log-probability of a row of bits; writes its derivatives by the logits."""
    _slopes(logits, bits, slopes, factors)
    total = 0.0
    for start in range(0, logits.size, BLOCK):
        end = min(start + BLOCK, logits.size)
        total += np.float64(_linear(logits[start:end], bits[start:end]))
        total -= math.log(np.float64(_product(factors[start:end])))
    return total


@for_a_team
def weigh_bits(data: Any) -> None:
    """Write the log-probabilities of this member's rows, and their derivatives.

    Behind the pointers: numbers of rows, columns and different rows of bits, and whether derivatives are kept; logits; bits,
    whose rows are taken in turn; log-probabilities; derivatives.
    """
    numbers = carray(data[0], 4, np.int64)
    rows, columns, different, kept = numbers[0], numbers[1], numbers[2], numbers[3]
    logits, bits = carray(data[1], (rows, columns), np.float32), carray(data[2], (different, columns), np.float32)
    log_probs = carray(data[3], rows, np.float32)
    slopes = carray(data[4], (rows if kept else 0, columns), np.float32)
    spare, factors = np.empty(columns, np.float32), np.empty(columns, np.float32)
    first, end = own_part(rows)
    for i in range(first, end):
        log_probs[i] = weigh_row(logits[i], bits[i % different], slopes[i] if kept else spare, factors)
