"""Convolutions as the dense matrices that they stand for, by loops in NumPy."""

import itertools
import math

import numpy as np


def corners(picture, size, padding):
    """Rows and columns of the picture at which a filter's first entry lies."""
    low = [0 if padding == "valid" else 1 - k for k in size]
    high = [n - k + 1 if padding == "valid" else n for n, k in zip(picture[1:], size, strict=True)]
    return [range(a, b) for a, b in zip(low, high, strict=True)]


def unrolled(weight, picture, padding, entries=1, start=0):
    """The matrix pixels x (filters x positions x entries) of a weight ``filters x inner x channels x k x k``."""
    rows, columns = corners(picture, weight.shape[-2:], padding)
    matrix = np.zeros((*picture, weight.shape[0], len(rows), len(columns), entries))
    for f, k, c, u, v in itertools.product(*map(range, weight.shape)):
        for (p, y), (q, x) in itertools.product(enumerate(rows), enumerate(columns)):
            if 0 <= y + u < picture[1] and 0 <= x + v < picture[2]:
                matrix[c, y + u, x + v, f, p, q, start + k] = weight[f, k, c, u, v]
    return matrix.reshape(math.prod(picture), -1)
