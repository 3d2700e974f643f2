"""The exponential of single precision that compiled loops share, written for LLVM: of one number, or of a vector of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_EDGE = 87.0
_LN2_HIGH = 0.693359375
"""ln 2 without its last digits: products with small whole numbers are exact. The rest is ``_LN2_LOW``."""
_LN2_LOW = math.log(2) - _LN2_HIGH
_MAGIC = 1.5 * 2.0**23
"""Added to a number of a few hundreds at most, it leaves the nearest whole one in the last bits."""

_FLOAT, _I32 = ir.FloatType(), ir.IntType(32)


def constant(kind: Any, value: float) -> Any:
    """A number of an LLVM type, or a vector that has it everywhere."""
    if not isinstance(kind, ir.VectorType):
        return ir.Constant(kind, float(np.float32(value)) if kind == _FLOAT else value)
    return ir.Constant(kind, [constant(kind.element, value)] * kind.count)


def plus_product(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, with a single rounding where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def write_exponential(builder: Any, t: Any) -> Any:
    """exp(t) with a relative error of some 1e-7 for |t| up to 87; beyond, the value at the limit."""

    def number(value: float) -> Any:
        return constant(t.type, value)

    kind = ir.VectorType(_I32, t.type.count) if isinstance(t.type, ir.VectorType) else _I32
    for limit, side in ((-_EDGE, "<"), (_EDGE, ">")):
        t = builder.select(builder.fcmp_ordered(side, t, number(limit)), number(limit), t)
    shifted = plus_product(builder, t, number(1 / math.log(2)), number(_MAGIC))
    whole = builder.fsub(shifted, number(_MAGIC))
    r = plus_product(builder, whole, number(-_LN2_HIGH), t)
    r = plus_product(builder, whole, number(-_LN2_LOW), r)
    # Terms that do not wait for one another.
    c2, c3, c4, c5, c6, c7 = (number(1 / math.factorial(n)) for n in range(2, 8))
    square = builder.fmul(r, r)
    upper = plus_product(builder, square, plus_product(builder, r, c7, c6), plus_product(builder, r, c5, c4))
    upper = plus_product(builder, square, upper, plus_product(builder, r, c3, c2))
    series = builder.fadd(plus_product(builder, square, upper, r), number(1))
    power = builder.shl(builder.bitcast(shifted, kind), constant(kind, 23))
    return builder.bitcast(builder.add(builder.bitcast(series, kind), power), t.type)


def _exponential(typing_context: Any, t: Any) -> Any:
    """exp(t), as ``write_exponential`` says."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return write_exponential(builder, arguments[0])

    return types.float32(types.float32), generate


exponential: Any = intrinsic(_exponential)
