"""Operations of the processor's matrix units (AMX), as intrinsics over addresses.

A unit multiplies tiles: 16 rows of 32 bfloat16 numbers by 32 rows of 16, and adds the products up in single precision. Bits are
bfloat16 numbers, and a number of single precision is the sum of three: its first eight binary digits, the next eight and the
last. So three products give what single precision gives, in a sixteenth of a vector unit's time each.

Four tiles hold sums, of 32 rows and 32 columns; two hold bits, and two one term of the other factor. Where the processor has
no such units the intrinsics are empty, and nobody may call them (``processor.has_matrix_units``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .exponential import constant
from .processor import TILE
from .vectors import load, save

SIDE = TILE // 2
"""Rows of a tile of the units, and columns of a tile of sums."""

UNIT_TILE = 64 * SIDE
"""Bytes of such a tile."""

TERMS = 3
"""Numbers of bfloat16 whose sum is one of single precision."""

STRIP = 2 * TERMS * UNIT_TILE
"""Bytes of the terms of 32 rows and 32 columns: term by term, both halves of the columns."""

_I8, _I16, _I32, _I64 = (ir.IntType(size) for size in (8, 16, 32, 64))
_POINTER = _I8.as_pointer()
_PAIRS, _NUMBERS = ir.VectorType(_I32, SIDE), ir.VectorType(ir.FloatType(), SIDE)
_SUMS, _BITS, _TERM = (0, 1, 2, 3), (4, 5), (6, 7)
"""Numbers of the tiles: of sums by block of rows and half of the columns, of bits by block of rows, of a term by half."""


def _call(builder: Any, name: str, *operands: Any) -> None:
    """Call an instruction of the units: whole numbers are numbers of tiles."""
    operands = tuple(ir.Constant(_I8, operand) if isinstance(operand, int) else operand for operand in operands)
    kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
    name = f"llvm.x86.{name}"
    builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), operands)


def _move(builder: Any, name: str, tile: int, base: Any, stride: Any = 64) -> None:
    """Load or store a tile from an address on, with ``stride`` bytes from row to row."""
    stride = ir.Constant(_I64, stride) if isinstance(stride, int) else stride
    _call(builder, name, tile, builder.inttoptr(base, _POINTER), stride)


def _behind(builder: Any, base: Any, offset: int) -> Any:
    return builder.add(base, ir.Constant(_I64, offset))


def _generator(emit: Callable[..., None]) -> Callable[..., Any]:
    """What Numba calls to generate an intrinsic: nothing on processors without the units."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if "+amx-bf16" in context.codegen().magic_tuple()[2]:
            emit(builder, *arguments)
        return context.get_dummy_value()

    return generate


def _of_one(emit: Callable[..., None]) -> Any:
    return intrinsic(lambda typing_context, first: (types.void(types.intp), _generator(emit)))


def _of_two(emit: Callable[..., None]) -> Any:
    return intrinsic(
        lambda typing_context, first, second: (types.void(types.intp, types.intp), _generator(emit)),
    )


def _of_three(emit: Callable[..., None]) -> Any:
    return intrinsic(
        lambda typing_context, first, second, third: (
            types.void(types.intp, types.intp, types.intp),
            _generator(emit),
        ),
    )


def _configure(builder: Any, before: Any) -> None:
    """Write how this thread's units were configured, and configure them: eight tiles of 16 rows of 64 bytes."""
    _call(builder, "sttilecfg", builder.inttoptr(before, _POINTER))
    numbers = [1] + [0] * 15 + [64, 0] * 8 + [0] * 16 + [SIDE] * 8 + [0] * 8
    kind = ir.ArrayType(_I8, len(numbers))
    with builder.goto_entry_block():
        room = builder.alloca(kind)
    builder.store(ir.Constant(kind, [ir.Constant(_I8, number) for number in numbers]), room)
    _call(builder, "ldtilecfg", builder.bitcast(room, _POINTER))


def _restore(builder: Any, before: Any) -> None:
    """Configure the units as they were: others in this thread take their configuration for granted."""
    _call(builder, "ldtilecfg", builder.inttoptr(before, _POINTER))


def _move_sums(name: str, blocks: int) -> Callable[..., None]:
    def emit(builder: Any, left: Any, right: Any, stride: Any) -> None:
        below = builder.mul(stride, ir.Constant(_I64, SIDE))
        for block in range(blocks):
            for half, base in enumerate((left, right)):
                _move(builder, name, _SUMS[2 * block + half], builder.add(base, below) if block else base, stride)

    return emit


def _add_products(blocks: int) -> Callable[..., None]:
    def emit(builder: Any, bits: Any, terms: Any) -> None:
        for block in range(blocks):
            _move(builder, "tileloadd64", _BITS[block], _behind(builder, bits, block * UNIT_TILE))
        for term in range(TERMS):
            for half in range(2):
                _move(builder, "tileloadd64", _TERM[half], _behind(builder, terms, (2 * term + half) * UNIT_TILE))
                for block in range(blocks):
                    _call(builder, "tdpbf16ps", _SUMS[2 * block + half], _BITS[block], _TERM[half])

    return emit


def _spread(builder: Any, words: Any, target: Any) -> None:
    """Write the bits of 32 words as numbers, a row for each."""
    row = ir.VectorType(_I16, TILE)
    for place in range(TILE):
        chosen = builder.bitcast(load(builder, words, 4 * place, _I32), ir.VectorType(ir.IntType(1), TILE))
        save(builder, builder.select(chosen, constant(row, 0x3F80), constant(row, 0)), target, 64 * place)


def _fetch(builder: Any, left: Any, right: Any, stride: Any) -> None:
    """Have 32 rows of 32 numbers brought near that will be written: products of few terms wait for memory without it."""
    kind = ir.FunctionType(ir.VoidType(), [_POINTER, _I32, _I32, _I32])
    name = "llvm.prefetch.p0"
    fetch = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    for row in range(TILE):
        offset = builder.mul(stride, ir.Constant(_I64, row))
        for base in (left, right):
            place = builder.inttoptr(builder.add(base, offset), _POINTER)
            builder.call(fetch, [place, *(ir.Constant(_I32, number) for number in (1, 3, 1))])


def _copy_words(typing_context: Any, source: Any, number: Any, target: Any) -> Any:
    """Copy words, up to 32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, number, target = arguments
        with cgutils.for_range(builder, number) as loop:
            offset = builder.mul(loop.index, ir.Constant(_I64, 4))
            save(builder, load(builder, source, offset, _I32), builder.add(target, offset), 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


def _split(builder: Any, source: Any, stride: Any, target: Any) -> None:
    """Write the terms of two rows of 16 numbers, side by side in pairs as the units read them."""
    rests = [load(builder, source, 0, _NUMBERS), load(builder, source, stride, _NUMBERS)]
    for term in range(TERMS):
        high = [builder.and_(builder.bitcast(rest, _PAIRS), constant(_PAIRS, 0xFFFF0000)) for rest in rests]
        pairs = builder.or_(builder.lshr(high[0], constant(_PAIRS, 16)), high[1])
        save(builder, pairs, target, 2 * term * UNIT_TILE)
        rests = [builder.fsub(rest, builder.bitcast(part, _NUMBERS)) for rest, part in zip(rests, high, strict=True)]


configure: Any = _of_one(_configure)
restore: Any = _of_one(_restore)
load_sums_of_block: Any = _of_three(_move_sums("tileloadd64", 1))
load_sums_of_pair: Any = _of_three(_move_sums("tileloadd64", 2))
store_sums_of_block: Any = _of_three(_move_sums("tilestored64", 1))
store_sums_of_pair: Any = _of_three(_move_sums("tilestored64", 2))
add_products_of_block: Any = _of_two(_add_products(1))
add_products_of_pair: Any = _of_two(_add_products(2))
fetch_to_write: Any = _of_three(_fetch)
spread_bits: Any = _of_two(_spread)
copy_words: Any = intrinsic(_copy_words)
split_rows: Any = _of_three(_split)
