"""JAX's precision, which is set for a whole process, while one machine is worked on."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

from ..extras import need


def precision_of(dtype: torch.dtype) -> AbstractContextManager[object]:
    """Double precision within this context where the machine has it, else what JAX is set to."""
    if dtype != torch.float64:
        return contextlib.nullcontext()
    need("JAX's precision", "jax")
    import jax

    # Versions of JAX have it in one place or the other.
    return (jax if hasattr(jax, "enable_x64") else jax.experimental).enable_x64(True)
