"""The two hot operations of a Gibbs sweep: an affine map and exact random bits."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .processor import is_amd, multiplies_bfloat16

Kernel = Callable[[Tensor, Tensor, Tensor | None], Tensor]

_FEW = 4096
"""Draws below which the compiled loop is not worth its import."""

_LARGE = 1 << 23
"""Multiplications from which tables of sums are worth looking whether the factor is one of bits."""

_PAYS = 32
"""Rows and columns, and pairs of inner places, from which tables of sums are worth making."""

_SMALL = 1 << 20
"""Multiplications below which oneDNN's fixed cost of a call outweighs its speed."""


def bernoulli(logits: Tensor, overwrite: bool = False) -> Tensor:
    r"""Bits with $P(1) = \sigma(\text{logits})$, on the dtype and device of ``logits``.

    On the processor sixteen random bits decide most draws; where they tie with the threshold $2^{16} p$ a fresh
    double-precision uniform decides on its fraction. So P(1) is the sigmoid to the rounding of the dtype, relative to itself,
    without the floor of ``rand < p`` at $2^{-24}$. Two words of torch's generator seed every call, so that ``manual_seed`` and
    saved random states govern these bits too; the number of threads does not change them.

    Args:
        logits: any shape.
        overwrite: whether the bits may take the memory of the logits.

    Example:
        >>> import torch
        >>> bernoulli(torch.tensor([-torch.inf, torch.inf]))
        tensor([0., 1.])
    """
    logits = logits.detach()
    if logits.dtype != torch.float32 or not _compiles(logits):
        return bernoulli_(torch.sigmoid(logits))
    bits = logits if overwrite else torch.empty_like(logits)
    compiled_loops().together(loops_of_bits().draw_from_single_logits, (logits, bits, seeds()), bits.numel())
    return bits


def bernoulli_(p: Tensor) -> Tensor:
    """Overwrite probabilities by bits drawn with them; returns the same tensor."""
    if p.dtype != torch.float64 or not _compiles(p):
        return p.copy_(torch.rand_like(p, dtype=torch.float64) < p)
    compiled_loops().together(loops_of_bits().draw_double, (p, seeds()), p.numel())
    return p


def _compiles(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.numel() >= _FEW and x.is_contiguous()


def seeds() -> Tensor:
    """Two words of torch's generator."""
    return torch.empty(2, dtype=torch.int64).random_(-(2**63), None)


@functools.cache
def loops_of_bits() -> ModuleType:
    """The module of loops that draw bits, at its first use."""
    from . import bits

    return bits


@functools.cache
def compiled_loops() -> ModuleType:
    """The module of compiled loops, at its first use."""
    from . import loops

    loops.keep_memory()
    return loops


def linear(x: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
    """``x @ weight + plus``, by the fastest single-precision kernel of this processor.

    MKL's kernels are slow on AMD processors with AVX-512, where oneDNN's reach twice their speed at equal accuracy; where
    vectors have eight numbers, large products of zeros and ones take half of MKL's time by tables of sums (figures in
    CONTRIBUTING).

    Args:
        x: ``batch_shape x n``.
        weight: ``n x m``, of any strides.
        plus: ``m``, or None.
    """
    if x.dim() != 2:
        return linear(x.reshape(-1, x.shape[-1]), weight, plus).view(*x.shape[:-1], weight.shape[1])
    single = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    if not single or x.shape[0] * weight.numel() < _SMALL:
        return _addmm(x, weight, plus)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, plus)):
        return _Linear.apply(x, weight, plus)
    return _product(x, weight, plus)


class _Linear(torch.autograd.Function):
    """The fast kernels have no derivative of their own."""

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
            _outer(x, gradient) if needs[1] else None,
            gradient.sum(0) if needs[2] else None,
        )


def _outer(x: Tensor, gradient: Tensor) -> Tensor:
    if torch.is_grad_enabled() and (x.requires_grad or gradient.requires_grad):
        return x.t() @ gradient
    return _product(x.t(), gradient, None, _addmm)


def _product(x: Tensor, weight: Tensor, plus: Tensor | None, kernel: Kernel | None = None) -> Tensor:
    """By tables of sums where they pay, else by the kernel, by default the fastest one."""
    bits = product_of_bits(x, weight, plus) if x.shape[0] * weight.numel() >= _LARGE and looks_up() else None
    return (kernel or _fastest())(x, weight, plus) if bits is None else bits


def product_of_bits(x: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor | None:
    """``x @ weight + plus`` by tables of sums, where ``x`` has nothing but zeros and ones."""
    (rows, inner), columns = x.shape, weight.shape[1]
    factors = (x, weight) if plus is None else (x, weight, plus)
    if min(rows, columns, inner // 2) < _PAYS or not _plain(factors):
        return None
    across, transposed = not x.is_contiguous(), not weight.is_contiguous()
    source, base = x.t() if across else x, weight.t() if transposed else weight
    fit = weight.shape[0] == inner and (plus is None or (plus.shape == (columns,) and plus.is_contiguous()))
    if not (fit and source.is_contiguous() and base.is_contiguous()):
        return None
    team, loops = compiled_loops(), _loops_of_products()
    tiles, strips = -(-inner // loops.TILE), -(-columns // loops.TILE)
    words, others = x.new_empty(tiles, rows, dtype=torch.int32), x.new_zeros(1, dtype=torch.int64)
    read = loops.read_bits_of_columns if across else loops.read_bits
    team.together(read, (source, words, others), rows, inner, tiles)
    if others.item():
        return None
    plus = x.new_empty(0) if plus is None else plus
    product = x.new_empty(rows, columns)
    chunks = max(-(-rows // loops.CHUNK), min(rows // _PAYS, 2 * torch.get_num_threads() // strips))
    sizes = (rows, inner, columns, tiles, transposed, plus.numel(), chunks)
    team.together(loops.multiply_bits, (words, base, plus, product), *sizes)
    return product


def _plain(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors are numbers in memory, single precision on the processor, and no transform or cast is to see them."""
    if torch.is_autocast_enabled("cpu") or torch.autograd.forward_ad._current_level >= 0:
        return False
    try:
        return all(t.dtype == torch.float32 and t.device.type == "cpu" and t.data_ptr() for t in tensors)
    except RuntimeError:  # of torch.func and batched gradients, whose tensors have no memory of their own
        return False


@functools.cache
def looks_up() -> bool:
    """Whether products of bits go by tables of sums: where products of floats have AVX2 and no wider vectors."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


@functools.cache
def _loops_of_products() -> ModuleType:
    from . import bit_products

    return bit_products


def _addmm(x: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor:
    return x @ weight if plus is None else torch.addmm(plus, x, weight)


def _onednn(x: Tensor, weight: Tensor, plus: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight.t(), plus, "none", [], "")


@functools.cache
def _fastest() -> Kernel:
    """The kernel for this processor.

    Chosen by what the processor is and not by timing it: two kernels round differently, and a choice that could change
    between two processes would break bit-identical resumption.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not is_amd():
        return _addmm
    x, weight, plus = torch.eye(3), torch.arange(6.0).view(3, 2), torch.ones(2)
    try:
        with torch.no_grad():
            agree = torch.equal(_onednn(x, weight, plus), _addmm(x, weight, plus))
    except (AttributeError, RuntimeError):
        return _addmm
    return _onednn if agree else _addmm


@contextlib.contextmanager
def bfloat16_products() -> Iterator[None]:
    r"""Within it, products of single-precision matrices round their factors to bfloat16 and add up in single precision.

    Torch's own switch for oneDNN, put back at the end. States of bits and spins are bfloat16 numbers already, so that only
    weights are rounded, each by at most $2^{-8}$ of itself; real-valued states are rounded too.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


PRECISIONS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "float32": contextlib.nullcontext,
    "bfloat16": bfloat16_products,
}


def has_bfloat16_products() -> bool:
    """Whether ``bfloat16_products`` makes products faster: the processor has units for them and torch the switch (2.9)."""
    return multiplies_bfloat16() and hasattr(torch.backends.mkldnn, "matmul")


def check_precision(precision: str, like: Tensor) -> None:
    """Refuse an unknown precision, and bfloat16 products where they would not be faster.

    Args:
        precision: one of ``PRECISIONS``.
        like: a parameter.

    Raises:
        ValueError: an unknown precision; bfloat16 with parameters of another precision than single, or elsewhere than on a
            processor with units for it.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision got {precision!r}; expected one of {', '.join(map(repr, PRECISIONS))}")
    if precision != "bfloat16":
        return
    if like.dtype != torch.float32 or like.device.type != "cpu":
        raise ValueError(
            f"precision='bfloat16' got parameters of {like.dtype} on {like.device}; expected torch.float32 on cpu (on a GPU "
            "use torch.set_float32_matmul_precision)"
        )
    if not has_bfloat16_products():
        raise ValueError(
            "precision='bfloat16' needs a processor with units for products of bfloat16 matrices (amx_bf16 among its flags) and "
            "torch 2.9 or later; here it would be slower than 'float32': use that"
        )
