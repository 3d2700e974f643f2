"""How much the log-partition function of a layer rises between two neighbouring temperatures."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from .fast import compiled_loops
from .units import Binary, Unit

_FEW = 4096
"""Atoms below which the compiled loop is not worth its import."""


@functools.singledispatch
def rise(unit: Unit, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    r"""$A(\text{after}) - A(\text{before})$ of every atom, or already summed over the last dimension and kept at size one.

    A unit with a faster way than the difference of two A registers it: ``@rise.register``.

    Args:
        unit: the units.
        before: natural parameters, one tensor a statistic.
        after: natural parameters near those.
    """
    return unit.A(*after) - unit.A(*before)


@rise.register
def _(unit: Binary, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    (low,), (high,) = before, after
    plain = low.device.type == "cpu" and low.dtype == high.dtype == torch.float32 and not torch.is_grad_enabled()
    if plain and low.dim() == 2 and low.shape == high.shape and low.numel() >= _FEW:
        if low.is_contiguous() and high.is_contiguous():
            summed = low.new_empty(len(low), 1)
            if not compiled_loops().together(_series().rise, (low, high, summed), *low.shape, 0)[2]:
                return summed
    return unit.A(*after) - unit.A(*before)


@functools.cache
def _series() -> ModuleType:
    from . import softplus

    return softplus
