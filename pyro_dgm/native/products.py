"""Products of matrices by the fastest kernel of this processor, with tables of sums where a factor holds bits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import processor
from .guard import is_plain, runs_at_once
from .precision import rounds_products

Kernel = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def linear(x: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
    """``x @ weight + plus``, by the fastest single-precision kernel of this processor.

    MKL's kernels are slow on AMD processors with whole AVX-512, where oneDNN's reach twice their speed at equal accuracy; where
    units have eight numbers, tables of sums take half of MKL's time for large products of zeros and ones, and three quarters
    for larger ones on Intel's AVX-512 (figures in tutorials/decisions).

    Args:
        x: ``batch_shape x n``.
        weight: ``n x m``, of any strides.
        plus: ``m``, or None.
    """
    if x.dim() != 2:
        return linear(x.reshape(-1, x.shape[-1]), weight, plus).view(*x.shape[:-1], weight.shape[1])
    if not runs_at_once() or x.shape[0] * weight.numel() < processor.SMALL_PRODUCT:
        return _addmm(x, weight, plus)
    differentiated = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, plus))
    by_addmm = not (differentiated or _multiplies_bits(x, weight) or processor.multiplies_by_onednn())
    # oneDNN broadcasts and casts nothing, and says of other shapes less than torch does.
    fit = x.shape[1] == weight.shape[0] and (plus is None or plus.shape == weight.shape[1:])
    plain = fit and not torch.is_autocast_enabled("cpu") and processor.single_on_processor((x, weight, plus))
    if by_addmm or not plain:
        return _addmm(x, weight, plus)
    return _Linear.apply(x, weight, plus) if differentiated else _product(x, weight, plus)


class _Linear(torch.autograd.Function):
    """The fast product with a derivative, which the kernels lack."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, plus)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        gradient = gradients[0]
        needs = ctx.needs_input_grad
        return (
            linear(gradient, weight.t()) if needs[0] else None,
            _of_weight(x, gradient, weight) if needs[1] else None,
            gradient.sum(0) if needs[2] else None,
        )


def _of_weight(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the weight, in the weight's own layout: autograd would copy another one into the parameter's."""
    across = not weight.is_contiguous()
    if not (torch.is_grad_enabled() and (x.requires_grad or gradient.requires_grad)):
        bits = _bits(x.t(), gradient, None, across)
        if bits is not None:
            return bits
    return (gradient.t() @ x).t() if across else x.t() @ gradient


def _product(x: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor:
    """The product by tables of sums where they pay, else by the fastest kernel."""
    bits = _bits(x, weight, plus)
    return _fastest()(x, weight, plus) if bits is None else bits


def _bits(x: Tensor, weight: Tensor, plus: Tensor | None, across: bool = False) -> Tensor | None:
    """The product by tables of sums where they pay; with ``across`` in the layout of its transpose."""
    return product_of_bits(x, weight, plus, across) if _multiplies_bits(x, weight) and not rounds_products() else None


def _multiplies_bits(x: Tensor, weight: Tensor) -> bool:
    return processor.multiplies_bits(x.shape[0], weight.numel(), across=not x.is_contiguous())


def product_of_bits(x: Tensor, weight: Tensor, plus: Tensor | None, columns_first: bool = False) -> Tensor | None:
    """``x @ weight + plus`` by tables of sums; None where ``x`` holds other numbers than bits, or the weight infinite ones.

    With ``columns_first`` it lies in memory as its transpose.
    """
    (rows, inner), columns = x.shape, weight.shape[1]
    factors = (x, weight) if plus is None else (x, weight, plus)
    if min(rows, columns, inner // 2) < processor.TABLE_ROWS or not _plain(factors):
        return None
    across, transposed = not x.is_contiguous(), not weight.is_contiguous()
    source, matrix = x.t() if across else x, weight.t() if transposed else weight
    fit = weight.shape[0] == inner and (plus is None or (plus.shape == (columns,) and plus.is_contiguous()))
    if not (fit and source.is_contiguous() and matrix.is_contiguous()):
        return None
    if source[0, 0].item() not in (0.0, 1.0):
        return None  # as of means and other real numbers, without a pass through all of them
    from . import bit_products, tables, team

    in_units = multiplies_by_units()
    tiles = -(-inner // tables.TILE)
    words, flag = x.new_empty(tiles, rows, dtype=torch.int32), x.new_zeros(1, dtype=torch.int64)
    plus = x.new_empty(0) if plus is None else plus
    product = x.new_empty(columns, rows) if columns_first else x.new_empty(rows, columns)
    sizes = (rows, inner, columns, tiles, transposed, plus.numel(), chunks_of(rows, columns), across, columns_first)
    loop = bit_products.multiply_bits_by_units if in_units else bit_products.multiply_bits_by_tables
    team.run_team(loop, (source, words, matrix, plus, product, flag), *sizes)
    if flag.item():
        return None
    return product.t() if columns_first else product


def chunks_of(rows: int, columns: int) -> int:
    """How many chunks of rows a product of bits is cut into: few, and enough for all threads."""
    from . import tables, unit_products

    chunk = unit_products.UNIT_CHUNK if multiplies_by_units() else tables.CHUNK
    return max(
        -(-rows // chunk), min(rows // processor.TABLE_ROWS, 2 * torch.get_num_threads() // -(-columns // tables.TILE))
    )


@functools.cache
def multiplies_by_units() -> bool:
    """Whether matrix units multiply bits, as they say of themselves and as a product of whole numbers shows."""
    if not processor.has_matrix_units():
        return False
    from . import bit_products, team

    like = torch.zeros(1, dtype=torch.float32, device="cpu")  # whatever the caller's defaults are
    x, weight = (
        torch.arange(64).expand(32, 64).remainder(3).eq(1).to(like),
        torch.arange(2048).view(64, 32).to(like) * 97,
    )
    words, product = like.new_empty(2, 32, dtype=torch.int32), like.new_empty(32, 32)
    flag = like.new_zeros(1, dtype=torch.int64)
    sizes = (32, 64, 32, 2, False, 0, 1, False, False)
    team.run_team(bit_products.multiply_bits_by_units, (x, words, weight, x.new_empty(0), product, flag), *sizes)
    return bool(flag == 0) and torch.equal(product.double(), x.double() @ weight.double())


def _plain(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors are plain single-precision numbers in the processor's memory, which no transform or cast needs to see."""
    if torch.is_autocast_enabled("cpu") or not runs_at_once():
        return False
    return all(t.dtype == torch.float32 and (is_plain(t) or (t.dim() == 2 and is_plain(t.t()))) for t in tensors)


def _addmm(x: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor:
    return x @ weight if plus is None else torch.addmm(plus, x, weight)


def _onednn(x: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor:
    # It reads a bias as if it were contiguous, and is very slow on weights that are neither rows nor columns of a matrix.
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(
        x, weight.t(), None if plus is None else plus.contiguous(), "none", [], ""
    )


@functools.cache
def _fastest() -> Kernel:
    """The kernel for this processor; torch's own where oneDNN's is missing or gives another result."""
    if not processor.multiplies_by_onednn():
        return _addmm
    x, weight, plus = torch.eye(3), torch.arange(6.0).view(3, 2), torch.ones(2)
    try:
        with torch.no_grad():
            agree = torch.equal(_onednn(x, weight, plus), _addmm(x, weight, plus))
    except (AttributeError, RuntimeError):
        return _addmm
    return _onednn if agree else _addmm
