"""The compiled loops of the recursion over columns; imported at its first large use.

Eight rows go along the columns together: their hidden units stay in the first-level cache, and every column's weights are read
once for all of them. Hidden units are squashed anew only where a column changed their sums: on bits, where it is 1. In the
forward pass the team's members share the rows; in the backward pass they share tiles of 256 hidden units, whose weights and
derivatives stay in the second-level cache. Cost: O(columns x hidden units) per row, in either direction.

Running sums of hidden units are in double precision, everything else is in single precision. The backward pass subtracts what
the forward pass added, and so recovers every sum to less than single precision resolves, whatever the columns' number and size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray

from .exponential import exponential
from .machine_code import compiled, sums, vectors
from .team import for_a_team, own_part

ROWS = 8
"""Rows that go along the columns together: their hidden units stay in the first-level cache."""

TILE = 256
"""Hidden units whose derivatives are found together."""

_ZERO, _ONE = np.float32(0), np.float32(1)


class Weights(NamedTuple):
    """The weights of a recursion, and the order of its columns.

    W, ``columns x features x units``; U, ``columns x units``; V, ``columns x numbers x units``; rho, ``columns``. U and rho are
    empty where there are none.
    """

    inputs: Any
    mask: Any
    outputs: Any
    scale: Any
    order: Any


class Derivatives(NamedTuple):
    """Derivatives by the sums at the first column, by x (empty where they are not asked for), and by the weights."""

    sums: Any
    x: Any
    inputs: Any
    mask: Any
    outputs: Any
    scale: Any


@sums
def dot(first: Any, second: Any) -> Any:
    """An inner product, summed in any order."""
    total = _ZERO
    for k in range(first.size):
        total += first[k] * second[k]
    return total


@vectors
def squash(sums: Any, scale: Any, relu: Any, h: Any) -> None:
    r"""Fill in hidden units, of scaled sums z: $\max(0, z)$, or $\sigma(z)$ to some $10^{-7}$ of itself for |z| up to 87."""
    if relu:
        for k in range(h.size):
            h[k] = max(np.float32(sums[k]) * scale, _ZERO)
        return
    for k in range(h.size):
        h[k] = _ONE / (_ONE + exponential(-np.float32(sums[k]) * scale))


@vectors
def forward(sums: Any, x: Any, weights: Any, relu: Any, numbers: Any) -> None:
    """Fill in the numbers of some rows; ``sums`` holds those at the first column before, and those at the last one after."""
    rows, units = sums.shape
    columns, features, parameters = x.shape[1], x.shape[2], weights.outputs.shape[1]
    h = np.empty((ROWS, units), np.float32)
    stale = np.empty(ROWS, np.bool_)
    scaled, masked = weights.scale.size > 0, weights.mask.size > 0
    for start in range(0, rows, ROWS):
        stale[:] = True
        for place in range(columns):
            i = weights.order[place]
            factor = weights.scale[i] if scaled else _ONE
            for r in range(start, min(start + ROWS, rows)):
                q = r - start
                if stale[q]:
                    squash(sums[r], factor, relu, h[q])
                for p in range(parameters):
                    numbers[r, i, p] = dot(weights.outputs[i, p], h[q])
                stale[q] = scaled or masked
                if place == columns - 1:
                    continue
                for f in range(features):
                    value = x[r, i, f]
                    if value != 0:
                        add(sums[r], value, weights.inputs[i, f])
                        stale[q] = True
                if masked:
                    add(sums[r], _ONE, weights.mask[i])


@vectors
def add(total: Any, factor: Any, terms: Any) -> None:
    """Add exact products of single-precision numbers to double-precision sums."""
    wide = np.float64(factor)
    for k in range(terms.size):
        total[k] += wide * np.float64(terms[k])


@vectors
def add_single(total: Any, factor: Any, terms: Any) -> None:
    """Add products of single-precision numbers to single-precision sums."""
    for k in range(terms.size):
        total[k] += factor * terms[k]


@vectors
def fold(by_h: Any, h: Any, scale: Any, relu: Any, by_sums: Any) -> None:
    """Add what derivatives by hidden units contribute to those by the sums, and set them to zero."""
    for k in range(h.size):
        slope = (_ONE if h[k] > _ZERO else _ZERO) if relu else h[k] * (_ONE - h[k])
        by_sums[k] += scale * (by_h[k] * slope)
        by_h[k] = _ZERO


@sums
def by_scale(by_h: Any, h: Any, relu: Any, sums: Any) -> Any:
    """The derivative by the factor that the sums were multiplied by."""
    total = 0.0
    for k in range(h.size):
        slope = (_ONE if h[k] > _ZERO else _ZERO) if relu else h[k] * (_ONE - h[k])
        total += np.float64(by_h[k] * slope) * sums[k]
    return total


@vectors
def add_output(gradient: Any, outputs: Any, h: Any, by_h: Any, by_outputs: Any) -> None:
    """Add what a number's derivative contributes to those by the hidden units and by its weights."""
    for k in range(h.size):
        by_h[k] += gradient * outputs[k]
        by_outputs[k] += gradient * h[k]


@vectors
def backward(sums: Any, x: Any, weights: Any, relu: Any, gradient: Any, derivatives: Any) -> None:
    """Add to the derivatives for some of the hidden units; ``sums`` goes from the last column back to the first one."""
    rows, units = sums.shape
    columns, features, parameters = x.shape[1], x.shape[2], weights.outputs.shape[1]
    h = np.empty((ROWS, units), np.float32)
    by_h = np.zeros((ROWS, units), np.float32)
    stale = np.empty(ROWS, np.bool_)
    scaled, masked, by_x = weights.scale.size > 0, weights.mask.size > 0, derivatives.x.size > 0
    for start in range(0, rows, ROWS):
        stale[:] = True
        for place in range(columns - 1, -1, -1):
            i, before = weights.order[place], weights.order[max(place - 1, 0)]
            factor = weights.scale[i] if scaled else _ONE
            for r in range(start, min(start + ROWS, rows)):
                q = r - start
                if stale[q]:
                    squash(sums[r], factor, relu, h[q])
                for p in range(parameters):
                    if gradient[r, i, p] != 0:
                        add_output(gradient[r, i, p], weights.outputs[i, p], h[q], by_h[q], derivatives.outputs[i, p])
                changes = scaled or masked or by_x or place == 0
                for f in range(features):
                    changes = changes or x[r, before, f] != 0
                stale[q] = changes
                if not changes:
                    continue
                if scaled:
                    derivatives.scale[i] += by_scale(by_h[q], h[q], relu, sums[r])
                fold(by_h[q], h[q], factor, relu, derivatives.sums[r])
                if place == 0:
                    continue
                for f in range(features):
                    value = x[r, before, f]
                    if by_x:
                        derivatives.x[r, before, f] += dot(weights.inputs[before, f], derivatives.sums[r])
                    if value != 0:
                        add_single(derivatives.inputs[before, f], value, derivatives.sums[r])
                        add(sums[r], -value, weights.inputs[before, f])
                if masked:
                    add_single(derivatives.mask[before], _ONE, derivatives.sums[r])
                    add(sums[r], -_ONE, weights.mask[before])


class Shape(NamedTuple):
    """Sizes of the recursion's arrays; ``masked`` and ``scaled`` are the columns, or 0 where there is no U or rho."""

    rows: Any
    columns: Any
    features: Any
    numbers: Any
    units: Any
    masked: Any
    scaled: Any


@compiled
def shape_of(sizes: Any) -> Any:
    """The shape that the sizes behind a loop's first pointer describe."""
    return Shape(sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6])


@compiled
def weights_at(data: Any, first: Any, shape: Any) -> Any:
    """The weights behind five pointers, the first of which has the number ``first``."""
    return Weights(
        carray(data[first], (shape.columns, shape.features, shape.units), np.float32),
        carray(data[first + 1], (shape.masked, shape.units), np.float32),
        carray(data[first + 2], (shape.columns, shape.numbers, shape.units), np.float32),
        carray(data[first + 3], shape.scaled, np.float32),
        carray(data[first + 4], shape.columns, np.int64),
    )


@compiled
def tile_of(weights: Any, left: Any, right: Any) -> Any:
    """Copies of the weights of some hidden units."""
    return Weights(
        weights.inputs[:, :, left:right].copy(),
        weights.mask[:, left:right].copy(),
        weights.outputs[:, :, left:right].copy(),
        weights.scale,
        weights.order,
    )


@for_a_team
def forward_rows(data: Any) -> None:
    """Fill in the numbers of this member's rows.

    Behind the first pointer: the sizes, and whether units are rectified. Behind the others: sums, x, the weights, the numbers.
    """
    sizes = carray(data[0], 8, np.int64)
    shape = shape_of(sizes)
    sums = carray(data[1], (shape.rows, shape.units), np.float64)
    x = carray(data[2], (shape.rows, shape.columns, shape.features), np.float32)
    numbers = carray(data[8], (shape.rows, shape.columns, shape.numbers), np.float32)
    first, end = own_part(shape.rows)
    forward(sums[first:end], x[first:end], weights_at(data, 3, shape), sizes[7] != 0, numbers[first:end])


@for_a_team
def backward_tiles(data: Any) -> None:
    """Fill in the derivatives for this member's tiles of hidden units.

    Behind the first pointer: the sizes, whether units are rectified, and the rows of the derivatives by x (or 0). Behind the
    others: sums, x, the weights, the gradient, and the derivatives by sums, x, W, U, V and (per tile) rho. All tiles add to the
    derivatives by x: where these are asked for one member does all tiles, so that they are summed in one order.
    """
    sizes = carray(data[0], 9, np.int64)
    shape, relu = shape_of(sizes), sizes[7] != 0
    rows, units = shape.rows, shape.units
    tiles = (units + TILE - 1) // TILE
    sums = carray(data[1], (rows, units), np.float64)
    x = carray(data[2], (rows, shape.columns, shape.features), np.float32)
    weights = weights_at(data, 3, shape)
    gradient = carray(data[8], (rows, shape.columns, shape.numbers), np.float32)
    by_sums = carray(data[9], (rows, units), np.float32)
    by_x = carray(data[10], (sizes[8], shape.columns, shape.features), np.float32)
    by_inputs = carray(data[11], weights.inputs.shape, np.float32)
    by_mask = carray(data[12], weights.mask.shape, np.float32)
    by_outputs = carray(data[13], weights.outputs.shape, np.float32)
    by_scales = carray(data[14], (tiles, shape.scaled), np.float64)
    groups = 1 if sizes[8] else tiles
    first, end = own_part(groups)
    if groups == 1 and first < end:
        end = tiles
    for tile in range(first, end):
        left, right = tile * TILE, min((tile + 1) * TILE, units)
        tile_weights = tile_of(weights, left, right)
        derivatives = Derivatives(
            np.zeros((rows, right - left), np.float32),
            by_x,
            np.zeros(tile_weights.inputs.shape, np.float32),
            np.zeros(tile_weights.mask.shape, np.float32),
            np.zeros(tile_weights.outputs.shape, np.float32),
            by_scales[tile],
        )
        backward(sums[:, left:right].copy(), x, tile_weights, relu, gradient, derivatives)
        by_sums[:, left:right] = derivatives.sums
        by_inputs[:, :, left:right] = derivatives.inputs
        by_mask[:, left:right] = derivatives.mask
        by_outputs[:, :, left:right] = derivatives.outputs
