"""Compiled loops from bits to words of 32 of them, ``tiles x rows``, and back; imported at their first use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from .machine_code import compiled, vectors
from .processor import TILE
from .team import for_a_team, own_part
from .vectors import BYTES, numbers_of_word, word_of_bits


@compiled
def find_bits(x: Any, words: Any) -> Any:
    """Fill in words of bits for this member's rows; returns whether there was anything but zeros and ones."""
    whole = x.shape[1] // TILE
    edge = np.zeros(TILE, np.float32)
    first, end = own_part(x.shape[0])
    for i in range(first, end):
        for tile in range(words.shape[0]):
            if tile < whole:
                ones, zeros = word_of_bits(x.ctypes.data + (i * x.shape[1] + tile * TILE) * 4)
            else:
                for j in range(x.shape[1] - whole * TILE):
                    edge[j] = x[i, whole * TILE + j]
                ones, zeros = word_of_bits(edge.ctypes.data)
            if ones ^ zeros != np.uint32(0xFFFFFFFF):
                return True
            words[tile, i] = ones
    return False


@vectors
def add_bits(row: Any, place: Any, words: Any) -> Any:
    """Set a bit of every word where its number is 1; returns how many numbers are neither 0 nor 1."""
    other_numbers = 0
    for j in range(words.size):
        one = row[j] == np.float32(1)
        words[j] |= np.uint32(one) << np.uint32(place)
        other_numbers += not (one or row[j] == np.float32(0))
    return other_numbers


@compiled
def find_bits_of_columns(x: Any, words: Any) -> Any:
    """Fill in words as ``find_bits`` does, for the rows of the transpose."""
    first, end = own_part(x.shape[1])
    for tile in range(words.shape[0]):
        own_words = words[tile, first:end]
        own_words[:] = 0
        for place in range(min(TILE, x.shape[0] - tile * TILE)):
            if add_bits(x[tile * TILE + place, first:end], place, own_words):
                return True
    return False


@for_a_team
def read_bits(data: Any) -> None:
    """Fill in words of the bits of a matrix, and raise a flag where there is anything but zeros and ones."""
    sizes = carray(data[0], 3, np.int64)
    x, words = carray(data[1], (sizes[0], sizes[1]), np.float32), carray(data[2], (sizes[2], sizes[0]), np.uint32)
    if find_bits(x, words):
        carray(data[3], 1, np.int64)[0] = 1


@compiled
def write_rows_of_bits(words: Any, first: Any, end: Any, x: Any) -> None:
    """Write the numbers that words of bits stand for, in some of the rows."""
    whole = x.shape[1] // TILE
    for i in range(first, end):
        row = x.ctypes.data + i * x.shape[1] * 4
        for tile in range(whole):
            numbers_of_word(words[tile, i], row + tile * BYTES)
        for j in range(x.shape[1] - whole * TILE):
            x[i, whole * TILE + j] = np.float32((words[whole, i] >> np.uint32(j)) & np.uint32(1))


@for_a_team
def write_bits(data: Any) -> None:
    """The inverse of ``read_bits``: the numbers that words of bits stand for."""
    sizes = carray(data[0], 3, np.int64)
    x, words = carray(data[1], (sizes[0], sizes[1]), np.float32), carray(data[2], (sizes[2], sizes[0]), np.uint32)
    first, end = own_part(sizes[0])
    write_rows_of_bits(words, first, end, x)
