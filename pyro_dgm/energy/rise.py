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
def rise(
    unit: Unit, base: Sequence[Tensor], fields: Sequence[Tensor], before: float, after: float
) -> tuple[Tensor, tuple[Tensor, ...]]:
    r"""$A(\eta_{after}) - A(\eta_{before})$ with $\eta_\beta = \text{base} + \beta\,\text{fields}$, and $\eta_{after}$.

    The rise is that of every atom, or summed over the last dimension already and kept at size one. A unit with a faster
    way than the difference of two A registers it: ``@rise.register``.

    Args:
        unit: the units.
        base: one tensor a statistic, shaped as the atoms.
        fields: the same, with dimensions for chains in front.
        before: inverse temperature.
        after: another one near it.
    """
    eta = at(after, base, fields)
    return unit.A(*eta) - unit.A(*at(before, base, fields)), eta


def at(beta: float, base: Sequence[Tensor], fields: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Natural parameters at an inverse temperature."""
    return tuple(torch.add(b, f, alpha=beta) for b, f in zip(base, fields, strict=True))


@rise.register
def _(
    unit: Binary, base: Sequence[Tensor], fields: Sequence[Tensor], before: float, after: float
) -> tuple[Tensor, tuple[Tensor, ...]]:
    (b,), (f,) = base, fields
    plain = f.device.type == "cpu" and b.dtype == f.dtype == torch.float32 and not torch.is_grad_enabled()
    if plain and b.dim() == 1 and f.dim() == 2 and f.numel() >= _FEW and b.is_contiguous() and f.is_contiguous():
        eta, summed = torch.empty_like(f), f.new_empty(len(f), 1)
        betas = torch.tensor([before, after], dtype=torch.float64)
        if not compiled_loops().together(_series().rise, (betas, b, f, eta, summed), *f.shape, 0)[2]:
            return summed, (eta,)
    (eta,) = at(after, base, fields)
    return unit.A(eta) - unit.A(*at(before, base, fields)), (eta,)


@functools.cache
def _series() -> ModuleType:
    from . import softplus

    return softplus
