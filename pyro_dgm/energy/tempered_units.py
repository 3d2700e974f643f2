"""Draws of layers at natural parameters between a base and a machine, and the weight of a change of temperature."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import native
from .units import Binary, Unit


@functools.singledispatch
def draw(
    unit: Unit,
    base: Sequence[Tensor],
    fields: Sequence[Tensor],
    betas: Tensor,
    source: Tensor | None = None,
    overwrite: bool = False,
) -> Tensor:
    """One state per row, with rows at the inverse temperatures in turn: ``chains x temperatures x ...``.

    A unit with a faster way registers it: ``@draw.register``.

    Args:
        unit: the units.
        base: one tensor per statistic, shaped as the atoms.
        fields: the same, with dimensions for rows (chains x temperatures) and the batch in front.
        betas: inverse temperatures.
        source: for every row, and entry of the batch, the row whose fields it takes; by default its own.
        overwrite: whether the state may take the memory of the fields; not with ``source``.
    """
    return unit.sample(*at_each(betas, base, fields, source), overwrite=True)


@functools.singledispatch
def weigh_and_draw(
    unit: Unit, base: Sequence[Tensor], fields: Sequence[Tensor], before: float, after: float
) -> tuple[Tensor, Tensor]:
    r"""$A(\eta_{after}) - A(\eta_{before})$ with $\eta_\beta = \text{base} + \beta\,\text{fields}$, and a state drawn at the end.

    The difference is given per atom, or already summed over the last dimension, which then has size one. The state may take
    the memory of the fields. A unit with a faster way registers it: ``@weigh_and_draw.register``.

    Args:
        unit: the units.
        base: one tensor per statistic, shaped as the atoms.
        fields: the same, with dimensions for chains in front.
        before: the inverse temperature before.
        after: the one after, near it.
    """
    low, high = _at(before, base, fields), _at(after, base, fields)
    return unit.A(*high) - unit.A(*low), unit.sample(*high)


def at_each(
    betas: Tensor, base: Sequence[Tensor], fields: Sequence[Tensor], source: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Natural parameters of rows that are at several temperatures in turn; arguments as for ``draw``."""
    naturals = []
    for b, field in zip(base, fields, strict=True):
        if source is not None:
            field = field.reshape(len(source), -1).index_select(0, source).view(field.shape)
        field = field.view(-1, len(betas), *field.shape[1:])
        naturals.append(torch.addcmul(b, betas.view(-1, *(1 for _ in field.shape[2:])), field))
    return tuple(naturals)


def _at(beta: float, base: Sequence[Tensor], fields: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.add(b, f, alpha=beta) for b, f in zip(base, fields, strict=True))


@draw.register
def _(
    unit: Binary,
    base: Sequence[Tensor],
    fields: Sequence[Tensor],
    betas: Tensor,
    source: Tensor | None = None,
    overwrite: bool = False,
) -> Tensor:
    (b,), (f,) = base, fields
    bits = native.draw_at_temperatures(b, f, betas, source, overwrite)
    if bits is None:
        return draw.dispatch(Unit)(unit, base, fields, betas, source)
    return bits.view(-1, len(betas), *b.shape)


@weigh_and_draw.register
def _(
    unit: Binary, base: Sequence[Tensor], fields: Sequence[Tensor], before: float, after: float
) -> tuple[Tensor, Tensor]:
    (b,), (f,) = base, fields
    weighed = native.weigh_and_draw(b, f, before, after)
    return weigh_and_draw.dispatch(Unit)(unit, base, fields, before, after) if weighed is None else weighed
