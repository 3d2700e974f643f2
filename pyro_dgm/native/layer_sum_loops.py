"""Compiled loops behind the sum over a layer of bits that rows of bits are coupled to, and behind its gradient.

One call each, where torch takes a dozen passes: between two products the caches hold nothing of what a pass reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray

from .log_prob_loop import weigh_row
from .machine_code import copy_of, sums, vectors
from .tables import multiply_by_tables
from .team import for_a_team, meet, own_part
from .unit_products import multiply_by_units
from .words import find_bits, find_bits_of_columns


@sums
def _sum_of_products(row: Any, weights: Any) -> Any:
    total = np.float32(0)
    for j in range(row.size):
        total += row[j] * weights[j]
    return total


@vectors
def _scale(row: Any, factor: Any, target: Any) -> None:
    for j in range(row.size):
        target[j] = factor * row[j]


@vectors
def _add_scaled(row: Any, factor: Any, target: Any) -> None:
    for j in range(row.size):
        target[j] += factor * row[j]


_multiply: Any = None
"""In place of the product of bits that a loop is made for."""


def sum_out(data: Any) -> None:
    """Write b x + sum_j log(1 + exp((x W + c)_j)) of rows x, and what the sum's derivatives by the fields are, negative.

    Behind the first pointer: rows; columns of x and of W; tiles of x; whether W is stored transposed; chunks; whether
    derivatives are kept. Behind the others: x, room for its words, W, b, c, room for fields, sums,
    derivatives, and a flag, which becomes 1 where x has other numbers than bits and 2 where a field or a sum is not finite.
    """
    numbers = carray(data[0], 7, np.int64)
    rows, inner, columns, tiles, kept = numbers[0], numbers[1], numbers[2], numbers[3], numbers[6]
    x, words, flag = (
        carray(data[1], (rows, inner), np.float32),
        carray(data[2], (tiles, rows), np.uint32),
        carray(data[9], 1, np.int64),
    )
    if find_bits(x, words):
        flag[0] = 1
    meet(data)
    if flag[0] == 1:
        return
    weight = carray(data[3], (columns, inner) if numbers[4] else (inner, columns), np.float32)
    bias, plus = carray(data[4], inner, np.float32), carray(data[5], columns, np.float32)
    fields, found = carray(data[6], (rows, columns), np.float32), carray(data[7], rows, np.float32)
    slopes = carray(data[8], (rows if kept else 0, columns), np.float32)
    if not _multiply(words, weight, numbers[4], plus, fields, numbers[5], np.int64(0)):
        flag[0] = 2
    meet(data)
    if flag[0] == 2:
        return
    spare, factors, nothing = (
        np.empty(columns, np.float32),
        np.empty(columns, np.float32),
        np.zeros(columns, np.float32),
    )
    first, end = own_part(rows)
    for i in range(first, end):
        summed = weigh_row(fields[i], nothing, slopes[i] if kept else spare, factors)
        found[i] = _sum_of_products(x[i], bias) - summed
        if not math.isfinite(found[i]):
            flag[0] = 2


def differentiate(data: Any) -> None:
    """Write the gradient of a weighted sum of what ``sum_out`` wrote, by W, b and c.

    Behind the first pointer: rows; columns of x and of W; tiles of rows; whether the gradient of W is stored transposed;
    chunks. Behind the others: x, room for words of its columns, derivatives, the rows' weights,
    room for their products, the three gradients, and a flag, which becomes 2 where the gradient is not finite.
    """
    numbers = carray(data[0], 6, np.int64)
    rows, inner, columns, tiles, across = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    x, words = carray(data[1], (rows, inner), np.float32), carray(data[2], (tiles, inner), np.uint32)
    slopes, weights = carray(data[3], (rows, columns), np.float32), carray(data[4], rows, np.float32)
    weighted = carray(data[5], (rows, columns), np.float32)
    by_bias, by_plus = carray(data[7], inner, np.float32), carray(data[8], columns, np.float32)
    find_bits_of_columns(x, words)
    first, end = own_part(rows)
    for i in range(first, end):
        _scale(slopes[i], -weights[i], weighted[i])
    first, end = own_part(inner)
    by_bias[first:end] = 0
    for i in range(rows):
        _add_scaled(x[i, first:end], weights[i], by_bias[first:end])
    meet(data)
    first, end = own_part(columns)
    by_plus[first:end] = 0
    for i in range(rows):
        _add_scaled(weighted[i, first:end], np.float32(1), by_plus[first:end])
    product = carray(data[6], (columns, inner) if across else (inner, columns), np.float32)
    if not _multiply(words, weighted, np.int64(0), np.empty(0, np.float32), product, numbers[5], across):
        carray(data[9], 1, np.int64)[0] = 2


def _made(loop: Callable[..., None], multiply: Any) -> Callable[[], Any]:
    return for_a_team(copy_of(loop, multiply.py_func, _multiply=multiply))


sum_out_by_tables, sum_out_by_units = (_made(sum_out, way) for way in (multiply_by_tables, multiply_by_units))
differentiate_by_tables, differentiate_by_units = (
    _made(differentiate, way) for way in (multiply_by_tables, multiply_by_units)
)
