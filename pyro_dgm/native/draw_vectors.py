"""A draw of 32 bits by their logits in registers alone, as intrinsic functions over addresses.

As loops of Numba's it took three times as long: these run in vectors of eight numbers where the processor has sixteen, and keep
in memory what lies between two loops.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .exponential import constant, write_exponential
from .processor import TILE
from .vectors import load, save

WORDS = TILE // 4
"""Random words behind 32 bits: sixteen random bits each."""

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_WORDS, _LANES = ir.VectorType(_I64, WORDS), ir.VectorType(_I16, TILE)


def _random_lanes(builder: Any, state: Any, gamma: Any) -> Any:
    """Sixteen random bits for each of 32 draws: the eight words after a state, as ``random_bits.mix`` makes them."""

    def everywhere(word: Any) -> Any:
        first = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), word, ir.Constant(_I32, 0))
        return builder.shuffle_vector(first, first, constant(ir.VectorType(_I32, WORDS), 0))

    def folded(z: Any, shift: int) -> Any:
        return builder.xor(z, builder.lshr(z, constant(_WORDS, shift)))

    steps = ir.Constant(_WORDS, [ir.Constant(_I64, word + 1) for word in range(WORDS)])
    z = builder.add(everywhere(state), builder.mul(everywhere(gamma), steps))
    z = builder.mul(folded(z, 30), constant(_WORDS, 0xBF58476D1CE4E5B9))
    z = builder.mul(folded(z, 27), constant(_WORDS, 0x94D049BB133111EB))
    return builder.bitcast(folded(z, 31), _LANES)


def _draw_row(typing_context: Any, logits: Any, state: Any, gamma: Any, inverse: Any) -> Any:
    """Two words for 32 logits: the bits that are 1, and those that are undecided; 1 / p is written for their sigmoids p.

    The n-th of 65536 parts of the unit interval lies below p where (n + 1) / p <= 65536; where p lies within the part its bit is
    undecided.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = builder.zext(_random_lanes(builder, *arguments[1:3]), ir.VectorType(_I32, TILE))
        row = load(builder, arguments[0], 0)
        one, parts = constant(row.type, 1), constant(row.type, 65536)
        inverse = builder.fadd(write_exponential(builder, builder.fsub(constant(row.type, -0.0), row)), one)
        save(builder, inverse, arguments[3], 0)
        low = builder.fmul(builder.sitofp(lanes, row.type), inverse)
        begun = builder.bitcast(builder.fcmp_ordered("<", low, parts), _I32)
        ones = builder.bitcast(builder.fcmp_ordered("<=", builder.fadd(low, inverse), parts), _I32)
        undecided = builder.and_(begun, builder.not_(ones))
        return context.make_tuple(builder, signature.return_type, [ones, undecided])

    return types.UniTuple(types.uint32, 2)(types.intp, types.uint64, types.uint64, types.intp), generate


def _write_word(typing_context: Any, word: Any, target: Any) -> Any:
    """Write the 32 bits of a word as numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row = ir.VectorType(ir.FloatType(), TILE)
        chosen = builder.bitcast(arguments[0], ir.VectorType(ir.IntType(1), TILE))
        save(builder, builder.select(chosen, constant(row, 1), constant(row, 0)), arguments[1], 0)
        return context.get_dummy_value()

    return types.void(types.uint32, types.intp), generate


def _number_at(typing_context: Any, address: Any) -> Any:
    """The number at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return load(builder, arguments[0], 0, ir.FloatType())

    return types.float32(types.intp), generate


draw_row: Any = intrinsic(_draw_row)
number_at: Any = intrinsic(_number_at)
write_word: Any = intrinsic(_write_word)
