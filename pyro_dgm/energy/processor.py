"""What the processor is, as far as it decides which kernels are fast."""

from __future__ import annotations

import functools


@functools.cache
def _description() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return lines.read()
    except OSError:
        return ""


def is_amd() -> bool:
    """Whether AMD made it."""
    return "AuthenticAMD" in _description()


def multiplies_bfloat16() -> bool:
    """Whether it has units for products of bfloat16 matrices (AMX), many times as fast as single precision."""
    return "amx_bf16" in _description()
