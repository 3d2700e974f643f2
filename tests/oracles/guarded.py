"""Tensors whose memory ends, or begins, where a page begins that nobody may touch: one number too far ends the process."""

from __future__ import annotations

import ctypes
import mmap

import torch

PAGE = mmap.PAGESIZE
_NOTHING, _READ = 0, 1


def guarded(values: torch.Tensor, at_end: bool = True, read_only: bool = False) -> torch.Tensor:
    """A contiguous copy of ``values`` next to a page that cannot be read; a ``read_only`` one cannot be written either."""
    if not values.numel():
        return values.clone()
    size = values.numel() * values.element_size()
    pages = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, pages + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    offset = PAGE + (pages - size if at_end else 0)
    copy = torch.frombuffer(memory, dtype=values.dtype, count=values.numel(), offset=offset).view(values.shape)
    copy.copy_(values)
    protect = ctypes.CDLL(None).mprotect
    for address, length, how in (
        (start, PAGE, _NOTHING),
        (start + PAGE, pages, _READ),
        (start + PAGE + pages, PAGE, _NOTHING),
    ):
        if how == _NOTHING or read_only:
            assert protect(ctypes.c_void_p(address), ctypes.c_size_t(length), how) == 0
    return copy
