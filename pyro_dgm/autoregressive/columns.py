"""The compiled loops of the recursion over columns; imported at its first large use.

Running sums of hidden units are double, everything else is single precision: the way back subtracts what the way there
added, and so finds every sum again up to less than single precision resolves, whatever the columns' number and size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..energy.loops import exponential, sums, vectors

ROWS = 8
"""Rows that go along the columns together: their hidden units stay in the first-level cache."""

_ZERO, _ONE = np.float32(0), np.float32(1)


@sums
def dot(first: Any, second: Any) -> Any:
    total = _ZERO
    for k in range(first.size):
        total += first[k] * second[k]
    return total


@vectors
def squash(sums: Any, scale: Any, relu: Any, h: Any) -> None:
    r"""Hidden units of scaled sums: $\max(0, z)$, or $\sigma(z)$ with a relative error of some $10^{-7}$ for |z| up to 87."""
    if relu:
        for k in range(h.size):
            h[k] = max(np.float32(sums[k]) * scale, _ZERO)
        return
    for k in range(h.size):
        h[k] = _ONE / (_ONE + exponential(-np.float32(sums[k]) * scale))


@vectors
def forward(
    sums: Any, x: Any, inputs: Any, mask: Any, outputs: Any, scale: Any, order: Any, relu: Any, numbers: Any
) -> None:
    """Fill in the numbers; ``sums`` goes from the first column's to the last one's.

    Arrays as in ``recursion``; ``mask`` and ``scale`` are empty where there are none.
    """
    rows, units = sums.shape
    columns, features, parameters = x.shape[1], x.shape[2], outputs.shape[1]
    h = np.empty((ROWS, units), np.float32)
    stale = np.empty(ROWS, np.bool_)
    for start in range(0, rows, ROWS):
        stale[:] = True
        for place in range(columns):
            i = order[place]
            factor = scale[i] if scale.size else _ONE
            for r in range(start, min(start + ROWS, rows)):
                q = r - start
                if stale[q]:
                    squash(sums[r], factor, relu, h[q])
                for p in range(parameters):
                    numbers[r, i, p] = dot(outputs[i, p], h[q])
                stale[q] = scale.size > 0 or mask.size > 0
                if place == columns - 1:
                    continue
                for f in range(features):
                    value = x[r, i, f]
                    if value != 0:
                        add(sums[r], value, inputs[i, f])
                        stale[q] = True
                if mask.size:
                    add(sums[r], _ONE, mask[i])


@vectors
def add(total: Any, factor: Any, terms: Any) -> None:
    """Double-precision sums plus exact products of single-precision numbers."""
    wide = np.float64(factor)
    for k in range(terms.size):
        total[k] += wide * np.float64(terms[k])


@vectors
def add_single(total: Any, factor: Any, terms: Any) -> None:
    for k in range(terms.size):
        total[k] += factor * terms[k]


@vectors
def fold(by_h: Any, h: Any, scale: Any, relu: Any, by_sums: Any) -> None:
    """Carry derivatives by hidden units over to the sums, and forget them."""
    for k in range(h.size):
        slope = (_ONE if h[k] > _ZERO else _ZERO) if relu else h[k] * (_ONE - h[k])
        by_sums[k] += scale * (by_h[k] * slope)
        by_h[k] = _ZERO


@sums
def by_scale(by_h: Any, h: Any, relu: Any, sums: Any) -> Any:
    """The derivative by the factor that the sums were multiplied with."""
    total = 0.0
    for k in range(h.size):
        slope = (_ONE if h[k] > _ZERO else _ZERO) if relu else h[k] * (_ONE - h[k])
        total += np.float64(by_h[k] * slope) * sums[k]
    return total


@vectors
def backward(
    sums: Any,
    x: Any,
    inputs: Any,
    mask: Any,
    outputs: Any,
    scale: Any,
    order: Any,
    relu: Any,
    gradient: Any,
    d_sums: Any,
    d_x: Any,
    d_inputs: Any,
    d_mask: Any,
    d_outputs: Any,
    d_scale: Any,
) -> None:
    """Add to the derivatives, for some of the hidden units; ``sums`` goes from the last column's back to the first one's.

    ``d_x`` is empty where it is not asked for.
    """
    rows, units = sums.shape
    columns, features, parameters = x.shape[1], x.shape[2], outputs.shape[1]
    h = np.empty((ROWS, units), np.float32)
    by_h = np.zeros((ROWS, units), np.float32)
    stale = np.empty(ROWS, np.bool_)
    always = scale.size > 0 or mask.size > 0 or d_x.size > 0
    for start in range(0, rows, ROWS):
        stale[:] = True
        for place in range(columns - 1, -1, -1):
            i, before = order[place], order[max(place - 1, 0)]
            factor = scale[i] if scale.size else _ONE
            for r in range(start, min(start + ROWS, rows)):
                q = r - start
                if stale[q]:
                    squash(sums[r], factor, relu, h[q])
                for p in range(parameters):
                    g = gradient[r, i, p]
                    if g != 0:
                        for k in range(units):
                            by_h[q, k] += g * outputs[i, p, k]
                            d_outputs[i, p, k] += g * h[q, k]
                changes = always or place == 0
                for f in range(features):
                    changes = changes or x[r, before, f] != 0
                stale[q] = changes
                if not changes:
                    continue
                if scale.size:
                    d_scale[i] += by_scale(by_h[q], h[q], relu, sums[r])
                fold(by_h[q], h[q], factor, relu, d_sums[r])
                if place == 0:
                    continue
                for f in range(features):
                    value = x[r, before, f]
                    if d_x.size:
                        d_x[r, before, f] += dot(inputs[before, f], d_sums[r])
                    if value != 0:
                        add_single(d_inputs[before, f], value, d_sums[r])
                        add(sums[r], -value, inputs[before, f])
                if mask.size:
                    add_single(d_mask[before], _ONE, d_sums[r])
                    add(sums[r], -_ONE, mask[before])
