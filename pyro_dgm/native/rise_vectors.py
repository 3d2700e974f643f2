"""What a step between two temperatures adds to the log-normaliser of 32 bits, in registers alone: an intrinsic over addresses."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .exponential import constant
from .processor import TILE
from .vectors import load, sum_of

LIMIT = 0.25
"""The largest step of a logit that the series takes: its remainder is below 5e-9 nats per atom there (0.409 LIMIT⁷ / 7!),
less than single precision's rounding of the step itself."""

_I32, _ROW = ir.IntType(32), ir.VectorType(ir.FloatType(), TILE)


def _rise_row(typing_context: Any, inverse: Any, change: Any, field: Any, step: Any) -> Any:
    r"""The sum of $A(\eta) - A(\eta - d)$ over 32 logits, d = step (change + field), and the steps that the series cannot take.

    Six terms of Taylor's series about $\eta$, whose sigmoid p comes as 1 / p: with $v = p (1 - p)$ the derivatives of A are p, v,
    v(1-2p), v(1-6v), v(1-2p)(1-12v) and v(1-30v+120v²).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        inverse, change, field = (load(builder, address, 0) for address in arguments[:3])
        first = builder.insert_element(ir.Constant(_ROW, ir.Undefined), arguments[3], ir.Constant(_I32, 0))
        step = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, TILE), [0] * TILE))

        def number(value: float) -> Any:
            return constant(_ROW, value)

        def times(*factors: Any) -> Any:
            product, *rest = (number(f) if isinstance(f, int | float) else f for f in factors)
            for factor in rest:
                product = builder.fmul(product, factor)
            return product

        def minus(a: Any, b: Any) -> Any:
            return builder.fsub(number(a) if isinstance(a, int | float) else a, b, flags=("contract",))

        d, p = times(step, builder.fadd(change, field)), builder.fdiv(number(1), inverse)
        v = times(p, minus(1, p))
        w = times(v, minus(1, times(2, p)))
        s = times(v, builder.fadd(minus(1, times(30, v)), times(120, v, v)), 1 / 720)
        s = minus(times(w, minus(1, times(12, v)), 1 / 120), times(d, s))
        s = minus(times(v, minus(1, times(6, v)), 1 / 24), times(d, s))
        s = minus(times(w, 1 / 6), times(d, s))
        s = minus(times(v, 1 / 2), times(d, s))
        total = sum_of(builder, times(d, minus(p, times(d, s))))
        inside = builder.and_(
            builder.fcmp_ordered("<=", d, number(LIMIT)), builder.fcmp_ordered(">=", d, number(-LIMIT))
        )
        beyond = builder.not_(builder.bitcast(inside, _I32))
        return context.make_tuple(builder, signature.return_type, [total, beyond])

    kind = types.Tuple((types.float32, types.uint32))
    return kind(types.intp, types.intp, types.intp, types.float32), generate


rise_row: Any = intrinsic(_rise_row)
