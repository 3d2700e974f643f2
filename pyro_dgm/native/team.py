"""Compiled loops, and torch's own threads to share them among; imported with the first loop.

Numba keeps machine code by the file of a loop: after a change here, delete the code of the other files (``*.nbc``, ``*.nbi``).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch
from numba import carray, types
from numba.extending import intrinsic
from torch import Tensor

from .guard import lies_flat

POINTERS = types.void(types.CPointer(types.voidptr))
"""The type of a loop that a team runs: it finds the memory of its arrays behind its one argument."""

_HALF, _ONE = np.float32(0.5), np.float32(1)
_EDGE = np.float32(87)
_PER_LN2 = np.float32(1 / np.log(2))
# ln 2 in two parts, of which the first has zeros at its end: its products with small whole numbers are exact.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(np.log(2) - 0.693359375)
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / f) for f in (2, 6, 24, 120, 720, 5040))
_BIAS = np.int32(127)
_SHIFT = np.int32(23)


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """A function as machine code, which is kept on disk where some folder can be written; options are Numba's."""
    return _cached(functools.partial(numba.njit, nogil=True, **options), function)


def for_a_team(function: Callable[..., None]) -> Callable[[], Any]:
    """Have a loop of type ``POINTERS`` compiled for ``run_team`` at its first use; it takes its part by ``own_part``."""
    return functools.cache(lambda: _cached(functools.partial(numba.cfunc, POINTERS), function))


def _cached(compiler: Callable[..., Any], function: Callable[..., Any]) -> Any:
    try:
        return compiler(cache=True)(function)
    except RuntimeError:
        return compiler()(function)


_alone: list[Any] = []
"""Stand-ins for OpenMP's functions where there is none: a team of one, numbered 0. Machine code lives as long as its object."""


def _lookup() -> tuple[Any, ...]:
    """Find the entry points of GNU OpenMP, which torch loads on Linux: start a team, own number, team's size, barrier.

    Elsewhere the first is None, and the others are the stand-ins of a team of one.
    """
    try:
        library = ctypes.CDLL(None)
        start = library.GOMP_parallel
        names = (library.omp_get_thread_num, library.omp_get_num_threads, library.GOMP_barrier)
    except (AttributeError, OSError, TypeError):
        _alone.extend(numba.cfunc(types.int32())(answer) for answer in (lambda: 0, lambda: 1))
        _alone.append(numba.cfunc(types.void())(lambda: None))
        return None, *(answer.address for answer in _alone)
    start.argtypes, start.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return start, *(ctypes.cast(name, ctypes.c_void_p).value for name in names)


_start, *_addresses = _lookup()
for _name, _address in zip(("pyro_dgm_member", "pyro_dgm_members", "pyro_dgm_meet"), _addresses, strict=True):
    llvmlite.binding.add_symbol(_name, _address)
_member: Any = types.ExternalFunction("pyro_dgm_member", types.int32())
_members: Any = types.ExternalFunction("pyro_dgm_members", types.int32())
meet: Any = types.ExternalFunction("pyro_dgm_meet", types.void())
"""Wait for every member of the team."""


@compiled
def own_part(number: Any) -> Any:
    """The first of ``number`` things that this member of the team does, and the one after its last."""
    member, members = np.int64(_member()), np.int64(_members())
    return number * member // members, number * (member + 1) // members


def run_team(loop: Callable[[], Any], tensors: Sequence[Tensor], *numbers: int) -> None:
    """Run a loop of ``for_a_team`` on as many threads as torch has, and wait for all of them.

    They are the threads of torch's own operations: those are awake between two products, and another pool's would
    compete with them for the processor. Where torch has no GNU OpenMP the loop runs alone.

    Args:
        loop: of ``for_a_team``; it finds the numbers, as int64, behind its first pointer, and the tensors behind the others.
        tensors: contiguous.
        numbers: sizes, as a rule.
    """
    for tensor in tensors:
        if not lies_flat(tensor):
            raise ValueError(
                f"a loop got a {type(tensor).__name__} of shape {tuple(tensor.shape)} on {tensor.device}; expected plain, "
                "contiguous memory of the processor"
            )
    words = (ctypes.c_int64 * len(numbers))(*numbers)
    pointers = (ctypes.c_void_p * (1 + len(tensors)))(ctypes.addressof(words), *(t.data_ptr() for t in tensors))
    threads = torch.get_num_threads()
    if threads == 1 or not _has_teams():
        loop().ctypes(pointers)
    else:
        _start(loop().address, pointers, threads, 0)


@for_a_team
def count(data: Any) -> None:
    """Add one to this member's share of some whole numbers."""
    size = carray(data[0], 1, np.int64)[0]
    times = carray(data[1], size, np.int64)
    first, end = own_part(size)
    for i in range(first, end):
        times[i] += 1


@functools.cache
def _has_teams() -> bool:
    """Whether a team does everything exactly once: it does not where two OpenMP libraries answer each other's calls."""
    if _start is None:
        return False
    size, times = ctypes.c_int64(1 << 14), torch.zeros(1 << 14, dtype=torch.int64)
    _start(count().address, (ctypes.c_void_p * 2)(ctypes.addressof(size), times.data_ptr()), 2, 0)
    return bool((times == 1).all())


def keep_memory() -> None:
    """Have the C library keep up to 64 MB of freed memory for the next tensors, instead of asking for fresh pages each time.

    The GNU library sets its thresholds by the largest block that it gave back to the system, up to 32 MB, unless the
    environment sets them (``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_``); others are left as they are.
    """
    torch.empty((1 << 25) - (1 << 16), dtype=torch.uint8)


keep_memory()


def _as_float(typing_context: Any, word: Any) -> Any:
    """The single-precision number that has the bits of an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


as_float: Any = intrinsic(_as_float)


# Loops run in vectors only if divisions do not raise, and sums only if their terms may be added in any order (the machine
# code fixes it, so that it is the same every time).
vectors = functools.partial(compiled, error_model="numpy", fastmath={"contract"})
sums = functools.partial(compiled, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})


@vectors
def exponential(t: Any) -> Any:
    """exp(t) in single precision with a relative error of some 1e-7 for |t| up to 87; beyond, the value at the limit."""
    t = min(max(t, -_EDGE), _EDGE)
    whole = np.floor(t * _PER_LN2 + _HALF)
    r = (t - whole * _LN2_HIGH) - whole * _LN2_LOW
    # Terms that do not wait for one another.
    square = r * r
    upper = (_C4 + r * _C5) + square * (_C6 + r * _C7)
    series = _ONE + (r + square * ((_C2 + r * _C3) + square * upper))
    return series * as_float(np.int32((np.int32(whole) + _BIAS) << _SHIFT))
