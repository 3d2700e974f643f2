"""Compiled products of bits with a matrix, by tables of sums; imported at the first large one.

Four rows of a matrix have sixteen sums. Once they are made, four bits of a state take one addition instead of four
multiplications, so that a hundred states pay for a table several times (Arlazarov, Dinic, Kronrod and Faradzhev 1970, the
method of four Russians). Tables are made where they are used, in the first-level cache, and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from .loops import compiled, for_a_team, share

TILE = 32
"""Rows and columns of a matrix that are looked up at once: one word of bits, one table of 16 KB."""

_GROUP = 4
_SUMS = 1 << _GROUP
_GROUPS = TILE // _GROUP
TABLE = _GROUPS * _SUMS
"""Rows of a table, of 32 numbers each."""

CHUNK = 256
"""States at most whose sums are kept in the nearest caches beside a table."""

_SQUARE = 8
_BYTES = 4 * TILE
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_FLOAT = ir.FloatType()
_ROW = ir.VectorType(_FLOAT, TILE)


def _place(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    """A pointer so many bytes behind another."""
    offset = ir.Constant(_I64, offset) if isinstance(offset, int) else offset
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def _load(builder: Any, base: Any, offset: Any, kind: Any = _ROW) -> Any:
    return builder.load(_place(builder, base, offset, kind), align=4)


def _save(builder: Any, value: Any, base: Any, offset: Any) -> None:
    builder.store(value, _place(builder, base, offset, value.type), align=4)


def _sum_rows(typing_context: Any, source: Any, stride: Any, table: Any) -> Any:
    """The sums of every subset of four rows: the bits of a sum's place say which rows are in it; the empty one is not written.

    The stride is in bytes.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, stride, table = arguments
        kind = ir.VectorType(_FLOAT, _SQUARE)
        for strip in range(0, _BYTES, 4 * _SQUARE):
            sums: list[Any] = [None]
            for row in range(_GROUP):
                offset = builder.mul(stride, ir.Constant(_I64, row))
                new = _load(builder, source, builder.add(offset, ir.Constant(_I64, strip)), kind)
                sums += [new if old is None else builder.fadd(old, new) for old in sums]
            for place, each in enumerate(sums):
                if each is not None:
                    _save(builder, each, table, place * _BYTES + strip)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


def _look_up(typing_context: Any, table: Any, word: Any, row: Any) -> Any:
    """Add to a row what the bits of a word select from a table."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table, word, row = arguments
        total = _load(builder, row, 0)
        places = builder.mul(builder.zext(word, _I64), ir.Constant(_I64, _BYTES))
        for group in range(_GROUPS):
            shifted = builder.lshr(places, ir.Constant(_I64, group * _GROUP))
            offset = builder.and_(shifted, ir.Constant(_I64, (_SUMS - 1) * _BYTES))
            offset = builder.add(offset, ir.Constant(_I64, group * _SUMS * _BYTES))
            total = builder.fadd(total, _load(builder, table, offset))
        _save(builder, total, row, 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.uint32, types.intp), generate


def _shuffle(builder: Any, first: Any, second: Any, order: Iterable[int]) -> Any:
    mask = ir.Constant(ir.VectorType(_I32, _SQUARE), list(order))
    return builder.shuffle_vector(first, second, mask)


def _transpose_square(typing_context: Any, source: Any, stride: Any, target: Any) -> Any:
    """Write the transpose of 8 x 8 numbers into a block; the stride of the source is in bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, stride, target = arguments
        kind = ir.VectorType(_FLOAT, _SQUARE)
        rows = [
            _load(builder, source, builder.mul(stride, ir.Constant(_I64, number)), kind) for number in range(_SQUARE)
        ]
        for step in (1, 2, 4):  # what differs in this bit of row and column changes places
            first = [c & ~step | (_SQUARE if c & step else 0) for c in range(_SQUARE)]
            second = [c | step if not c & step else c + _SQUARE for c in range(_SQUARE)]
            new = list(rows)
            for number in range(_SQUARE):
                if not number & step:
                    new[number] = _shuffle(builder, rows[number], rows[number | step], first)
                    new[number | step] = _shuffle(builder, rows[number], rows[number | step], second)
            rows = new
        for number, row in enumerate(rows):
            _save(builder, row, target, number * _BYTES)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


def _word_of_bits(typing_context: Any, source: Any) -> Any:
    """Which of 32 numbers are 1, as a word of bits, and which are 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row = _load(builder, arguments[0], 0)
        words = [
            builder.bitcast(builder.fcmp_ordered("==", row, ir.Constant(_ROW, [ir.Constant(_FLOAT, v)] * TILE)), _I32)
            for v in (1.0, 0.0)
        ]
        return context.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint32, 2)(types.intp), generate


sum_rows: Any = intrinsic(_sum_rows)
look_up: Any = intrinsic(_look_up)
transpose_square: Any = intrinsic(_transpose_square)
word_of_bits: Any = intrinsic(_word_of_bits)


@compiled
def find_block(weight: Any, transposed: Any, top: Any, left: Any, block: Any) -> Any:
    """Where a tile of a matrix, or of its transpose, is to be read, and its stride; at the edges and of a transpose, a copy."""
    rows, columns = (weight.shape[1], weight.shape[0]) if transposed else weight.shape
    whole = top + TILE <= rows and left + TILE <= columns
    across = weight.shape[1] * 4
    if whole and not transposed:
        return weight.ctypes.data + top * across + left * 4, across
    if whole:
        source = weight.ctypes.data + left * across + top * 4
        for i in range(0, TILE, _SQUARE):
            for j in range(0, TILE, _SQUARE):
                transpose_square(source + j * across + i * 4, across, block.ctypes.data + i * _BYTES + j * 4)
    else:
        for i in range(TILE):
            for j in range(TILE):
                inside = top + i < rows and left + j < columns
                down, along = (left + j, top + i) if transposed else (top + i, left + j)
                block[i, j] = weight[down, along] if inside else 0
    return block.ctypes.data, _BYTES


@compiled
def aligned(rows: Any) -> Any:
    """Zeros whose rows do not straddle more cache lines than they must."""
    room = np.zeros((rows + 1) * TILE, np.float32)
    skipped = -(room.ctypes.data // 4) % TILE
    return room[skipped : skipped + rows * TILE].reshape(rows, TILE)


@compiled
def look_up_rows(source: Any, stride: Any, words: Any, table: Any, sums: Any) -> None:
    """Add to every row of sums what the bits of its word select from 32 rows of a matrix; ``table`` is room."""
    for group in range(_GROUPS):
        sum_rows(source + group * _GROUP * stride, stride, table.ctypes.data + group * _SUMS * _BYTES)
    for i in range(words.size):
        look_up(table.ctypes.data, words[i], sums.ctypes.data + i * _BYTES)


@compiled
def add_tiles(words: Any, weight: Any, top: Any, height: Any, table: Any, sums: Any) -> None:
    """The same for the tiles of a strip, ``tiles x 32 x 32``."""
    for tile in range(words.shape[0]):
        look_up_rows(weight.ctypes.data + tile * TILE * _BYTES, _BYTES, words[tile, top : top + height], table, sums)


@compiled
def begin_sums(plus: Any, left: Any, height: Any, sums: Any) -> None:
    """32 columns of ``plus``, or zeros, in so many rows."""
    for j in range(TILE):
        inside = left + j < plus.size
        sums[0, j] = plus[left + j] if inside else 0
    for i in range(1, height):
        for j in range(TILE):
            sums[i, j] = sums[0, j]


@compiled
def multiply_tiles(words: Any, weight: Any, transposed: Any, plus: Any, product: Any, chunks: Any) -> None:
    """This member's share of ``bits @ weight + plus``, or of the transposed weight's, in so many chunks of rows."""
    rows, columns = product.shape
    chunk, strips = (rows + chunks - 1) // chunks, (columns + TILE - 1) // TILE
    table, sums, block = aligned(TABLE), aligned(chunk), aligned(TILE)
    first, end = share(chunks * strips)
    for part in range(first, end):
        top, left = part // strips * chunk, part % strips * TILE
        height, width = min(chunk, rows - top), min(TILE, columns - left)
        begin_sums(plus, left, height, sums)
        for tile in range(words.shape[0]):
            source, stride = find_block(weight, transposed, tile * TILE, left, block)
            look_up_rows(source, stride, words[tile, top : top + height], table, sums)
        for i in range(height):
            for j in range(width):
                product[top + i, left + j] = sums[i, j]


@compiled
def find_bits(x: Any, words: Any) -> Any:
    """Words of the bits of this member's share of rows; whether there was anything but zeros and ones."""
    whole = x.shape[1] // TILE
    rest = np.zeros(TILE, np.float32)
    first, end = share(x.shape[0])
    for i in range(first, end):
        for tile in range(words.shape[0]):
            if tile < whole:
                ones, zeros = word_of_bits(x.ctypes.data + (i * x.shape[1] + tile * TILE) * 4)
            else:
                for j in range(x.shape[1] - whole * TILE):
                    rest[j] = x[i, whole * TILE + j]
                ones, zeros = word_of_bits(rest.ctypes.data)
            if ones ^ zeros != np.uint32(0xFFFFFFFF):
                return True
            words[tile, i] = ones
    return False


@for_a_team
def read_bits(data: Any) -> None:
    sizes = carray(data[0], 3, np.int64)
    x, words = carray(data[1], (sizes[0], sizes[1]), np.float32), carray(data[2], (sizes[2], sizes[0]), np.uint32)
    if find_bits(x, words):
        carray(data[3], 1, np.int64)[0] = 1


@for_a_team
def multiply_bits(data: Any) -> None:
    sizes = carray(data[0], 7, np.int64)
    rows, inner, columns, tiles = sizes[0], sizes[1], sizes[2], sizes[3]
    shape = (columns, inner) if sizes[4] else (inner, columns)
    multiply_tiles(
        carray(data[1], (tiles, rows), np.uint32),
        carray(data[2], shape, np.float32),
        sizes[4],
        carray(data[3], sizes[5], np.float32),
        carray(data[4], (rows, columns), np.float32),
        sizes[6],
    )


@for_a_team
def write_bits(data: Any) -> None:
    """The inverse of ``read_bits``: the numbers that words of bits stand for."""
    sizes = carray(data[0], 3, np.int64)
    x, words = carray(data[1], (sizes[0], sizes[1]), np.float32), carray(data[2], (sizes[2], sizes[0]), np.uint32)
    first, end = share(sizes[0])
    for i in range(first, end):
        for tile in range(sizes[2]):
            for j in range(min(TILE, sizes[1] - tile * TILE)):
                x[i, tile * TILE + j] = np.float32((words[tile, i] >> np.uint32(j)) & np.uint32(1))
