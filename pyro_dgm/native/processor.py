"""Properties of the processor, and the sizes from which on each compiled loop pays."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Sequence

import torch
from torch import Tensor

from .guard import PLAIN, runs_at_once

TILE = 32
"""Rows and columns of a tile of weights, and bits of a word."""

FEW_DRAWS = 4096
"""The number of bits below which the compiled draws are not worth their import."""

FEW_LOGITS = 8192
"""The number of logits below which the log-probabilities of bits take torch's passes no longer than a call."""

SMALL_PRODUCT = 1 << 20
"""Multiplications below which oneDNN's fixed cost of a call outweighs its speed."""

LARGE_PRODUCT = 1 << 23
"""Multiplications from which on it is worth checking whether a factor holds nothing but bits."""

WIDE_PRODUCT, WIDE_ROWS = 1 << 25, 100
"""The same, and the fewest rows, where products of floats have the wide vectors of Intel's AVX-512."""

SPLIT_PRODUCT, SPLIT_ROWS = 14 << 20, 64
"""Multiplications, and the fewest rows, where vectors of AVX-512 are split."""

UNIT_PRODUCT, UNIT_ROWS = 1 << 24, 64
"""The same for products by matrix units."""

TABLE_ROWS = 32
"""The fewest rows, columns and pairs of inner places for which tables of sums are worth making."""

SWEPT_WEIGHTS = 1 << 19
"""Weights times rows from which on the loop over words of bits tempers faster than XLA."""

FEW_STATES = {"torch": (4, 1 << 17), "jax": (10, 1 << 14)}
"""The fewest states that the loop sweeps faster than torch or JAX, and up to how many weights it sweeps even fewer faster."""

COPIED_WEIGHTS = 1 << 26
"""The most weights of which two more copies are made: half a gigabyte."""

RECURSION_STEP = 75.0
"""Microseconds that a column of the recursion and of its derivatives takes torch, whatever the rows, as measured."""

RECURSION_GAIN = 1000.0
"""Microseconds of a call below which the compiled recursion is not worth its import."""


@functools.cache
def _description() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return lines.read()
    except OSError:
        return ""


def _described(entry: str) -> str | None:
    """What the processor's description says of an entry."""
    found = (line.split(":", 1)[1].strip() for line in _description().splitlines() if line.startswith(entry))
    return next(found, None)


def processor_name() -> str:
    """The processor, its vector instructions and its matrix units, in words."""
    name = _described("model name") or platform.machine()
    units = " and AMX" if has_matrix_units() else ""
    return f"{name}{' (Zen 4)' if splits_vectors() else ''} with {vector_instructions()}{units}"


@functools.cache  # the description has a part for every core, and every large product asks
def is_amd() -> bool:
    """Whether AMD made the processor."""
    return "AuthenticAMD" in _description()


@functools.cache
def splits_vectors() -> bool:
    """Whether AVX-512's vectors go through units of half their width: AMD's Zen 4, whose products MKL makes at full speed."""
    return is_amd() and _described("cpu family") == "25" and vector_instructions() == "AVX512"


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has units for products of bfloat16 matrices (AMX), many times as fast as single precision."""
    return "amx_bf16" in _description()


@functools.cache
def has_matrix_units() -> bool:
    """Whether the processor has units for products of bfloat16 matrices, and Linux lets this process load their tiles.

    A process has to ask, once; torch does so before its own products in bfloat16.
    """
    if not (multiplies_bfloat16() and "amx_tile" in _description() and vector_instructions() == "AVX512"):
        return False
    arch_prctl, ask_for_permission, tiles = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, ask_for_permission, tiles) == 0


def vector_instructions() -> str:
    """The widest vectors that torch uses: ``"AVX2"`` or ``"AVX512"`` where the processor has wide ones."""
    return torch.backends.cpu.get_cpu_capability()


def multiplies_bits(rows: int, weights: int, across: bool = False) -> bool:
    """Whether a product of bits goes by matrix units or tables of sums: by the processor, where that was measured to be faster.

    Args:
        rows: of bits.
        weights: entries of the other factor.
        across: whether the rows are the columns of what is stored, as in gradients of the weights: reading them takes longer.
    """
    products = rows * weights
    if has_matrix_units():
        return rows >= UNIT_ROWS and products >= (WIDE_PRODUCT if across else UNIT_PRODUCT)
    if _widest() == "AVX2":
        return rows >= TABLE_ROWS and products >= LARGE_PRODUCT
    if splits_vectors():
        return rows >= SPLIT_ROWS and products >= SPLIT_PRODUCT
    return _widest() == "AVX512" and not is_amd() and not across and rows >= WIDE_ROWS and products >= WIDE_PRODUCT


@functools.cache
def _widest() -> str:
    return vector_instructions()


@functools.cache
def multiplies_by_onednn() -> bool:
    """Whether oneDNN's kernels are the faster ones: MKL's reach half their speed on AMD processors with whole AVX-512.

    The kind of processor decides, not a timing: two kernels round differently, and a choice that could change
    between two processes would break bit-identical resumption.
    """
    return vector_instructions() == "AVX512" and is_amd() and not splits_vectors()


def single_on_processor(tensors: Sequence[Tensor | None]) -> bool:
    """Whether all tensors are of single precision and in the processor's memory, and operations on them run at once."""
    present = [t for t in tensors if t is not None]
    return runs_at_once() and all(type(t) in PLAIN and t.dtype == torch.float32 and t.is_cpu for t in present)


def moves_bits(tensors: Sequence[Tensor]) -> bool:
    """Whether the loops over words of bits can move a machine of these parameters: in single precision, by wide vectors."""
    return vector_instructions() in ("AVX2", "AVX512") and single_on_processor(tensors)


def steps_pay(rows: int, weights: int) -> bool:
    """Whether the loops over words of bits are faster than XLA at all that they do for that many states and weights."""
    return rows >= TABLE_ROWS and rows * weights >= SWEPT_WEIGHTS and weights <= COPIED_WEIGHTS


def sweeps_pay(rows: int, weights: int, against: str) -> bool:
    """Whether Gibbs sweeps by the loop are faster than by torch or JAX for that many states and weights, once it is loaded."""
    fewest, small = FEW_STATES[against]
    return (rows >= fewest or weights <= small) and weights <= COPIED_WEIGHTS


def recursion_pays(rows: int, columns: int, units: int, numbers: int, tensors: Sequence[Tensor | None]) -> bool:
    """Whether the compiled recursion over columns takes these tensors and is faster than torch's operations.

    A row of a column takes the loop some microseconds more than torch where it has many numbers, which are products of matrices
    there, and less where it has many units (figures in tutorials/decisions).
    """
    more = 0.11 + numbers * (0.04 + 0.0004 * units) - 0.0035 * units
    faster = rows * more < RECURSION_STEP and columns * RECURSION_STEP >= RECURSION_GAIN
    return faster and single_on_processor(tensors)
