"""Operations on vectors of 32 numbers, and of half as many, that Numba does not write by itself, as intrinsics over addresses.

Arguments are addresses in bytes: slices of arrays would bring checks and reference counts that took as long as the additions.
The processor splits a vector into registers of its own width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .processor import TILE, vector_instructions

BYTES = 4 * TILE
HALF = BYTES // 2
GROUP = 5
SUMS = 1 << GROUP
SQUARE = 8

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLOAT = ir.FloatType()
_ROW = ir.VectorType(_FLOAT, TILE)
_HALF_ROW = ir.VectorType(_FLOAT, TILE // 2)


def _place(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    """A pointer ``offset`` bytes behind an address."""
    offset = ir.Constant(_I64, offset) if isinstance(offset, int) else offset
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def load(builder: Any, base: Any, offset: Any, kind: Any = _ROW) -> Any:
    return builder.load(_place(builder, base, offset, kind), align=4)


def save(builder: Any, value: Any, base: Any, offset: Any) -> None:
    builder.store(value, _place(builder, base, offset, value.type), align=4)


def groups_of(rows: int) -> list[int]:
    """The groups that a table cuts this many rows of a matrix into: five rows each, and what is left."""
    return [min(GROUP, rows - first) for first in range(0, rows, GROUP)]


def _sum_rows(rows: int) -> Any:
    """Write a group of a table for half a row: the sums of all subsets of some rows of a matrix; the empty sum is left out.

    The bits of a sum's place say which rows are in it. The stride of the source is in bytes.
    """

    def intrinsic_of(typing_context: Any, source: Any, stride: Any, table: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, stride, table = arguments
            width = 16 if vector_instructions() == "AVX512" else SQUARE  # its registers hold all sums at once
            kind = ir.VectorType(_FLOAT, width)
            for strip in range(0, HALF, 4 * width):
                sums: list[Any] = [None]
                for row in range(rows):
                    offset = builder.mul(stride, ir.Constant(_I64, row))
                    new = load(builder, source, builder.add(offset, ir.Constant(_I64, strip)), kind)
                    sums += [new if old is None else builder.fadd(old, new) for old in sums]
                for place, total in enumerate(sums):
                    if total is not None:
                        save(builder, total, table, place * HALF + strip)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp), generate

    return intrinsic(intrinsic_of)


def _look_up(rows: int) -> Any:
    """Add to half a row what the bits of a word select from a table."""

    def intrinsic_of(typing_context: Any, table: Any, word: Any, row: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            table, word, row = arguments
            mask, totals = (
                (SUMS - 1) * HALF,
                [load(builder, row, 0, _HALF_ROW), None],
            )  # neither sum waits for the other
            for group in range(len(groups_of(rows))):
                shift = group * GROUP - (HALF.bit_length() - 1)  # from the group's bits to bytes of the table
                move = builder.lshr if shift > 0 else builder.shl
                offset = builder.and_(move(word, ir.Constant(_I64, abs(shift))), ir.Constant(_I64, mask))
                offset = builder.add(offset, ir.Constant(_I64, group * SUMS * HALF))
                found, turn = load(builder, table, offset, _HALF_ROW), 1 - group % 2
                totals[turn] = found if totals[turn] is None else builder.fadd(totals[turn], found)
            save(builder, builder.fadd(*totals), row, 0)
            return context.get_dummy_value()

        return types.void(types.intp, types.uint64, types.intp), generate

    return intrinsic(intrinsic_of)


def _add_zeros(rows: int) -> Any:
    """Add 0 times the sums of all rows of a table to half a row: it becomes NaN where they are infinite or NaN."""

    def intrinsic_of(typing_context: Any, table: Any, row: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            table, row = arguments
            total, zeros = (
                load(builder, row, 0, _HALF_ROW),
                ir.Constant(_HALF_ROW, [ir.Constant(_FLOAT, 0.0)] * (TILE // 2)),
            )
            for group, size in enumerate(groups_of(rows)):
                sums = load(builder, table, (group * SUMS + (1 << size) - 1) * HALF, _HALF_ROW)
                total = builder.fadd(total, builder.fmul(zeros, sums))
            save(builder, total, row, 0)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp), generate

    return intrinsic(intrinsic_of)


def _shuffle(builder: Any, first: Any, second: Any, order: Iterable[int]) -> Any:
    mask = ir.Constant(ir.VectorType(_I32, SQUARE), list(order))
    return builder.shuffle_vector(first, second, mask)


def _transpose_square(typing_context: Any, source: Any, stride: Any, target: Any, target_stride: Any) -> Any:
    """Write the transpose of 8 x 8 numbers; strides are in bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, stride, target, target_stride = arguments
        kind = ir.VectorType(_FLOAT, SQUARE)
        rows = [load(builder, source, builder.mul(stride, ir.Constant(_I64, number)), kind) for number in range(SQUARE)]
        for step in (1, 2, 4):  # what differs in this bit of row and column changes places
            first = [c & ~step | (SQUARE if c & step else 0) for c in range(SQUARE)]
            second = [c | step if not c & step else c + SQUARE for c in range(SQUARE)]
            new = list(rows)
            for number in range(SQUARE):
                if not number & step:
                    new[number] = _shuffle(builder, rows[number], rows[number | step], first)
                    new[number | step] = _shuffle(builder, rows[number], rows[number | step], second)
            rows = new
        for number, row in enumerate(rows):
            save(builder, row, target, builder.mul(target_stride, ir.Constant(_I64, number)))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), generate


def _copy_half(typing_context: Any, source: Any, target: Any) -> Any:
    """Copy half a row of numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        save(builder, load(builder, arguments[0], 0, _HALF_ROW), arguments[1], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _word_of_bits(typing_context: Any, source: Any) -> Any:
    """Two words of bits: which of 32 numbers are 1, and which are 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row = load(builder, arguments[0], 0)
        words = [
            builder.bitcast(builder.fcmp_ordered("==", row, ir.Constant(_ROW, [ir.Constant(_FLOAT, v)] * TILE)), _I32)
            for v in (1.0, 0.0)
        ]
        return context.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint32, 2)(types.intp), generate


def _numbers_of_word(typing_context: Any, word: Any, target: Any) -> Any:
    """Write 32 numbers, 1 where the bits of a word are set and 0 elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chosen = builder.bitcast(arguments[0], ir.VectorType(ir.IntType(1), TILE))
        ones, zeros = (ir.Constant(_ROW, [ir.Constant(_FLOAT, v)] * TILE) for v in (1.0, 0.0))
        save(builder, builder.select(chosen, ones, zeros), arguments[1], 0)
        return context.get_dummy_value()

    return types.void(types.uint32, types.intp), generate


def _interpolate_row(typing_context: Any, base: Any, difference: Any, field: Any, beta: Any, target: Any) -> Any:
    """Write base + beta (difference + field)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base, difference, field = (load(builder, address, 0) for address in arguments[:3])
        first = builder.insert_element(ir.Constant(_ROW, ir.Undefined), arguments[3], ir.Constant(_I32, 0))
        everywhere = ir.Constant(ir.VectorType(_I32, TILE), [0] * TILE)
        beta = builder.shuffle_vector(first, first, everywhere)
        save(builder, builder.fadd(base, builder.fmul(beta, builder.fadd(difference, field))), arguments[4], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.float32, types.intp), generate


def sum_of(builder: Any, row: Any) -> Any:
    """The sum of a row's numbers."""
    half = TILE // 2
    while half:
        halves = [ir.Constant(ir.VectorType(_I32, half), list(range(start, start + half))) for start in (0, half)]
        row = builder.fadd(*(builder.shuffle_vector(row, row, mask) for mask in halves))
        half //= 2
    return builder.extract_element(row, ir.Constant(_I32, 0))


def _sum_selected(typing_context: Any, word: Any, difference: Any, field: Any) -> Any:
    """The sum of difference + field where the bits of a word are 1."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chosen = builder.bitcast(arguments[0], ir.VectorType(ir.IntType(1), TILE))
        row = builder.fadd(*(load(builder, address, 0) for address in arguments[1:]))
        row = builder.select(chosen, row, ir.Constant(_ROW, None))
        return sum_of(builder, row)

    return types.float32(types.uint32, types.intp, types.intp), generate


interpolate_row: Any = intrinsic(_interpolate_row)
sum_selected: Any = intrinsic(_sum_selected)
sum_group: Any = _sum_rows(GROUP)
sum_last_of_tile: Any = _sum_rows(groups_of(TILE)[-1])
sum_last_of_pair: Any = _sum_rows(groups_of(2 * TILE)[-1])
look_up: Any = _look_up(TILE)
look_up_pair: Any = _look_up(2 * TILE)
add_zeros: Any = _add_zeros(TILE)
add_zeros_of_pair: Any = _add_zeros(2 * TILE)
transpose_square: Any = intrinsic(_transpose_square)
copy_half: Any = intrinsic(_copy_half)
word_of_bits: Any = intrinsic(_word_of_bits)
numbers_of_word: Any = intrinsic(_numbers_of_word)
