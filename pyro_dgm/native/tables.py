"""Compiled products of bits with a matrix, by tables of sums; imported at the first large one.

Five rows of a matrix have thirty-two sums. Once they are made, five bits of a state take one addition instead of five
multiplications, so that a hundred states pay for a table several times (Arlazarov, Dinic, Kronrod and Faradzhev 1970, the
method of four Russians). Tables are made where they are used, in the first-level cache, and nothing is kept. A table serves
half a tile's columns and the rows of two tiles, as many as that cache holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .machine_code import compiled
from .team import own_part
from .vectors import (
    GROUP,
    HALF,
    SQUARE,
    SUMS,
    TILE,
    add_zeros,
    add_zeros_of_pair,
    copy_half,
    groups_of,
    look_up,
    look_up_pair,
    sum_group,
    sum_last_of_pair,
    sum_last_of_tile,
    transpose_square,
)

TABLE = len(groups_of(2 * TILE)) * SUMS // 2
"""Room for a table in rows of 32 numbers: 26 KB for 64 rows and 16 columns of a matrix."""

CHUNK = 512
"""The most states whose sums are kept in the nearest caches beside a table."""


@compiled
def copy_edge(weight: Any, transposed: Any, top: Any, left: Any, height: Any, width: Any, block: Any) -> None:
    """Copy what tiles at the edge have of a matrix or of its transpose; the rest is zeros. The source is read along its rows."""
    if height < block.shape[1] or width < TILE:
        block[:] = 0
    if transposed:
        for j in range(width):
            for i in range(height):
                block[j // (TILE // 2), i, j % (TILE // 2)] = weight[left + j, top + i]
    else:
        for i in range(height):
            for j in range(width):
                block[j // (TILE // 2), i, j % (TILE // 2)] = weight[top + i, left + j]


@compiled
def copy_block(weight: Any, transposed: Any, top: Any, left: Any, block: Any) -> None:
    """Copy tiles of a matrix or of its transpose, ``2 x rows x 16``: both halves of the columns of one tile, or of two."""
    rows, columns = (weight.shape[1], weight.shape[0]) if transposed else weight.shape
    deep, across = block.shape[1], weight.shape[1] * 4
    if top + deep > rows or left + TILE > columns:
        copy_edge(weight, transposed, top, left, min(deep, rows - top), min(TILE, columns - left), block)
    elif transposed:
        source = weight.ctypes.data + left * across + top * 4
        for i in range(0, deep, SQUARE):
            for j in range(0, TILE, SQUARE):
                target = block[j // (TILE // 2), i].ctypes.data + j % (TILE // 2) * 4
                transpose_square(source + j * across + i * 4, across, target, HALF)
    else:
        source = weight.ctypes.data + top * across + left * 4
        for i in range(deep):
            for half in range(2):
                copy_half(source + i * across + half * HALF, block[half, i].ctypes.data)


@compiled
def aligned(rows: Any) -> Any:
    """Zeros whose rows do not straddle more cache lines than they must."""
    memory = np.zeros((rows + 1) * TILE, np.float32)
    skipped = -(memory.ctypes.data // 4) % TILE
    return memory[skipped : skipped + rows * TILE].reshape(rows, TILE)


@compiled
def halves_of(size: Any, strip: Any) -> Any:
    """How many halves of a strip of 32 columns a matrix of ``size`` columns reaches into: one or two."""
    return 1 if size - strip * TILE <= TILE // 2 else 2


@compiled
def aligned_halves(rows: Any) -> Any:
    """Room for rows of 32 sums, ``2 x rows x 16``: the halves of a row lie apart, since they are summed one after the other."""
    return aligned(rows).reshape(2, rows, TILE // 2)


@compiled
def look_up_rows(
    source: Any, stride: Any, words: Any, tile: Any, top: Any, height: Any, table: Any, target: Any
) -> None:
    """Add to ``height`` halves of rows what bits select from a matrix, by a new ``table``.

    The bits are those of one tile's words, or of two, from the row ``top`` on: the last tile may be alone.
    """
    paired, begin, beyond = tile + 1 < words.shape[0], table.ctypes.data, source
    for _ in range((2 * TILE if paired else TILE) // GROUP):
        sum_group(beyond, stride, begin)
        beyond, begin = beyond + GROUP * stride, begin + SUMS * HALF
    if paired:
        sum_last_of_pair(beyond, stride, begin)
        for i in range(height):
            word = np.uint64(words[tile, top + i]) | (np.uint64(words[tile + 1, top + i]) << np.uint64(TILE))
            look_up_pair(table.ctypes.data, word, target + i * HALF)
    else:
        sum_last_of_tile(beyond, stride, begin)
        for i in range(height):
            look_up(table.ctypes.data, np.uint64(words[tile, top + i]), target + i * HALF)


@compiled
def add_tiles(words: Any, weight: Any, halves: Any, top: Any, height: Any, table: Any, sums: Any) -> None:
    """Call ``look_up_rows`` for all tiles of a strip, ``2 x tiles x 32 x 16``, in one or both halves of ``height`` rows."""
    for half in range(halves):
        for tile in range(0, words.shape[0], 2):
            source = weight[half].ctypes.data + tile * TILE * HALF
            look_up_rows(source, HALF, words, tile, top, height, table, sums[half].ctypes.data)


@compiled
def begin_sums(plus: Any, left: Any, height: Any, sums: Any) -> None:
    """Write 32 columns of ``plus``, or zeros, into ``height`` rows of sums."""
    for half in range(2):
        own, first = sums[half], left + half * (TILE // 2)
        for j in range(TILE // 2):
            own[0, j] = plus[first + j] if first + j < plus.size else 0
        for i in range(1, height):
            copy_half(own.ctypes.data, own.ctypes.data + i * HALF)


@compiled
def join_halves(sums: Any, height: Any, target: Any, stride: Any) -> None:
    """Copy rows of sums to where they lie whole, ``stride`` bytes apart."""
    for half in range(2):
        for i in range(height):
            copy_half(sums[half].ctypes.data + i * HALF, target + i * stride + half * HALF)


@compiled
def write_sums(sums: Any, height: Any, top: Any, left: Any, product: Any) -> None:
    """Copy 32 columns of sums, or as many as are left, to their places in the product."""
    width = min(TILE, product.shape[1] - left)
    if width == TILE:
        place = product.ctypes.data + (top * product.shape[1] + left) * 4
        join_halves(sums, height, place, product.shape[1] * 4)
    else:
        for i in range(height):
            for j in range(width):
                product[top + i, left + j] = sums[j // (TILE // 2), i, j % (TILE // 2)]


@compiled
def write_across(sums: Any, height: Any, top: Any, left: Any, product: Any) -> None:
    """Copy sums as ``write_sums`` does, to the transpose of the product."""
    columns, rows = product.shape
    for half in range(2):
        first = left + half * (TILE // 2)
        for j in range(0, min(TILE // 2, columns - first), SQUARE):
            for i in range(0, height, SQUARE):
                if i + SQUARE <= height and first + j + SQUARE <= columns:
                    target = product.ctypes.data + ((first + j) * rows + top + i) * 4
                    transpose_square(sums[half, i].ctypes.data + j * 4, HALF, target, rows * 4)
                else:
                    for k in range(j, min(j + SQUARE, columns - first)):
                        for m in range(i, min(i + SQUARE, height)):
                            product[first + k, top + m] = sums[half, m, k]


@compiled
def multiply_by_tables(
    words: Any, weight: Any, transposed: Any, plus: Any, product: Any, chunks: Any, across: Any
) -> Any:
    """Fill in this member's share of ``bits @ weight + plus``, or of the transposed weight's, in ``chunks`` chunks of rows.

    With ``across`` the transpose of the product is filled in. Returns whether the weights that it read are finite: 0 times an
    infinite one is NaN, which no table knows.
    """
    rows, columns = words.shape[1], weight.shape[0] if transposed else weight.shape[1]
    chunk, strips = (rows + chunks - 1) // chunks, (columns + TILE - 1) // TILE
    table, sums, zeros = aligned(TABLE), aligned_halves(chunk), aligned(1)
    one, two = aligned_halves(TILE), aligned_halves(2 * TILE)
    first, end = own_part(chunks * strips)
    for task in range(first, end):
        top, left = task // strips * chunk, task % strips * TILE
        height = min(chunk, rows - top)
        begin_sums(plus, left, height, sums)
        for tile in range(0, words.shape[0], 2):
            paired = tile + 1 < words.shape[0]
            block = two if paired else one
            copy_block(weight, transposed, tile * TILE, left, block)
            for half in range(halves_of(columns, task % strips)):
                target = sums[half].ctypes.data
                look_up_rows(np.int64(block[half].ctypes.data), HALF, words, tile, top, height, table, target)
                if paired:
                    add_zeros_of_pair(table.ctypes.data, zeros.ctypes.data)
                else:
                    add_zeros(table.ctypes.data, zeros.ctypes.data)
        if across:
            write_across(sums, height, top, left, product)
        else:
            write_sums(sums, height, top, left, product)
    infinite = False
    for j in range(TILE // 2):
        infinite |= zeros[0, j] != 0
    return not infinite
