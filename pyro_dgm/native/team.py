"""Torch's own threads, to share compiled loops among; imported with the first loop."""

from __future__ import annotations

import ctypes
import functools
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch
from numba import carray, types
from torch import Tensor

from .guard import lies_flat, runs_at_once
from .machine_code import callback, compiled, copy_of

POINTERS = types.void(types.CPointer(types.voidptr))
"""The type of a loop that a team runs: it finds the memory of its arrays behind its one argument, and the team's status before.

The status is the number of the meeting at which the team breaks up, or 0; the numbers behind it count every member's meetings.
"""

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
_meet: Any = types.ExternalFunction("pyro_dgm_meet", types.void())


@compiled
def _goes_on(data: Any) -> Any:
    """Whether this member is to meet the others again."""
    status = carray(data[-1], 1 + _members(), np.int64)
    return status[0] == 0 or status[0] > status[1 + _member()]


@compiled
def meet(data: Any) -> None:
    """Wait for every member of the team.

    Raises:
        RuntimeError: one of them had an error before.
    """
    carray(data[-1], 1 + _members(), np.int64)[1 + _member()] += 1
    _meet()
    if not _goes_on(data):
        raise RuntimeError("the team has broken up")


@compiled
def _break_up(data: Any) -> None:
    """Have the team break up at its next meeting."""
    status = carray(data[-1], 1 + _members(), np.int64)
    status[0] = 1 + status[1 + _member()]


_loop: Any = None
"""In place of the loop that ``in_team`` is made for."""


def in_team(data: Any) -> None:
    """A loop as every member of a team runs it: after an error it meets those that wait for it, and nobody meets again."""
    try:
        _loop(data)
    except Exception:
        if _goes_on(data):
            _break_up(data)
    if _goes_on(data):
        _meet()


def for_a_team(function: Callable[..., None]) -> Callable[[], Any]:
    """Have a loop of type ``POINTERS`` compiled for ``run_team`` at its first use; it takes its part by ``own_part``."""
    return functools.cache(
        lambda: callback(copy_of(in_team, function, _loop=compiled(function, no_cpython_wrapper=True)), POINTERS)
    )


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

    Raises:
        ValueError: other memory, or operations that are traced or transformed.
        RuntimeError: the loop had an error.
    """
    if not runs_at_once():
        raise ValueError("a loop was called where operations are traced or transformed, which can't see what it does")
    for tensor in tensors:
        if not lies_flat(tensor):
            raise ValueError(
                f"a loop got a {type(tensor).__name__} of shape {tuple(tensor.shape)} on {tensor.device}; expected plain, "
                "contiguous memory of the processor"
            )
    threads = torch.get_num_threads()
    if not _run(loop(), 1 if threads == 1 or not _has_teams() else threads, tensors, numbers):
        raise RuntimeError(
            f"the loop {loop().__name__} stopped at an error, as a rule for want of memory, and its results are unfinished: take "
            "fewer rows at a time"
        )


def _run(code: Any, threads: int, tensors: Sequence[Tensor], numbers: Sequence[int]) -> bool:
    """Run the machine code of a loop; returns whether no member had an error."""
    words, status = array("q", numbers), array("q", bytes(8 * (1 + threads)))
    table = array("q", [status.buffer_info()[0], words.buffer_info()[0], *(t.data_ptr() for t in tensors)])
    pointers = table.buffer_info()[0] + table.itemsize
    if threads == 1:
        _function(code)(pointers)
    else:
        _start(code.address, pointers, threads, 0)
    return not status[0]


@functools.cache
def _function(code: Any) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address)


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
    times = torch.zeros(1 << 14, dtype=torch.int64, device="cpu")
    _run(count(), 2, [times], [len(times)])
    return bool((times == 1).all())


def keep_memory() -> None:
    """Have the C library keep up to 64 MB of freed memory for the next tensors, instead of asking for fresh pages each time.

    The GNU library sets its thresholds by the largest block that it gave back to the system, up to 32 MB, unless the
    environment sets them (``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_``); others are left as they are.
    """
    torch.empty((1 << 25) - (1 << 16), dtype=torch.uint8, device="cpu")


keep_memory()
