"""What layers do at natural parameters between a base and a machine: draw, and weigh a change of temperature."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from . import fast
from .units import Binary, Unit

_FEW = 4096
"""Atoms below which the compiled loops are not worth their import."""


@functools.singledispatch
def draw(
    unit: Unit,
    base: Sequence[Tensor],
    fields: Sequence[Tensor],
    betas: Tensor,
    source: Tensor | None = None,
    overwrite: bool = False,
) -> Tensor:
    """One state of every row, each at the next of some inverse temperatures in turn: ``chains x temperatures x ...``.

    A unit with a faster way registers it: ``@draw.register``.

    Args:
        unit: the units.
        base: one tensor a statistic, shaped as the atoms.
        fields: the same, with dimensions for rows (chains x temperatures) and the batch in front.
        betas: inverse temperatures.
        source: for every row, and entry of the batch, whose fields it takes, where not its own.
        overwrite: whether the state may take the memory of the fields; not with ``source``.
    """
    return unit.sample(*at_each(betas, base, fields, source), overwrite=True)


@functools.singledispatch
def weigh_and_draw(
    unit: Unit, base: Sequence[Tensor], fields: Sequence[Tensor], before: float, after: float
) -> tuple[Tensor, Tensor]:
    r"""$A(\eta_{after}) - A(\eta_{before})$ with $\eta_\beta = \text{base} + \beta\,\text{fields}$, and a state drawn at the end.

    The difference is that of every atom, or summed over the last dimension already and kept at size one. The state may take
    the memory of the fields. A unit with a faster way registers it: ``@weigh_and_draw.register``.

    Args:
        unit: the units.
        base: one tensor a statistic, shaped as the atoms.
        fields: the same, with dimensions for chains in front.
        before: inverse temperature.
        after: another one near it.
    """
    low, high = _at(before, base, fields), _at(after, base, fields)
    return unit.A(*high) - unit.A(*low), unit.sample(*high)


def at_each(
    betas: Tensor, base: Sequence[Tensor], fields: Sequence[Tensor], source: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Natural parameters of rows that are at several temperatures in turn; arguments as for ``draw``."""
    found = []
    for b, field in zip(base, fields, strict=True):
        if source is not None:
            field = field.reshape(len(source), -1).index_select(0, source).view(field.shape)
        field = field.view(-1, len(betas), *field.shape[1:])
        found.append(torch.addcmul(b, betas.view(-1, *(1 for _ in field.shape[2:])), field))
    return tuple(found)


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
    if not _plain(b, f):
        return draw.dispatch(Unit)(unit, base, fields, betas, source)
    bits = f if overwrite else torch.empty_like(f)
    rows = f.new_empty(0, dtype=torch.int64) if source is None else source
    loop, sizes = fast.loops_of_bits().draw_single_at_temperatures, (*f.shape, len(betas), len(rows))
    fast.compiled_loops().together(loop, (b, f, betas, rows, bits, fast.seeds()), *sizes)
    return bits.view(-1, len(betas), *b.shape)


@weigh_and_draw.register
def _(
    unit: Binary, base: Sequence[Tensor], fields: Sequence[Tensor], before: float, after: float
) -> tuple[Tensor, Tensor]:
    (b,), (f,) = base, fields
    if _plain(b, f):
        betas, summed = torch.tensor([before, after], dtype=torch.float64), f.new_empty(len(f), 1)
        fast.compiled_loops().together(_series().weigh_and_draw, (betas, b, f, summed, fast.seeds()), *f.shape)
        return summed, f
    return weigh_and_draw.dispatch(Unit)(unit, base, fields, before, after)


def _plain(base: Tensor, fields: Tensor) -> bool:
    """Whether the compiled loops take these: single precision on the processor, one dimension of rows, enough of them."""
    single = fields.device.type == "cpu" and base.dtype == fields.dtype == torch.float32
    large = base.dim() == 1 and fields.dim() == 2 and fields.numel() >= _FEW
    return single and large and base.is_contiguous() and fields.is_contiguous() and not torch.is_grad_enabled()


@functools.cache
def _series() -> ModuleType:
    from . import softplus

    return softplus
