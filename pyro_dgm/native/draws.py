"""Exact random bits: by their logits, at several temperatures, and with the weight of a change of temperature."""

from __future__ import annotations

import functools
import threading
from typing import Any

import torch
from torch import Tensor

from .guard import check_array, check_indices, is_plain, runs_at_once
from .processor import FEW_DRAWS


def bernoulli(logits: Tensor, overwrite: bool = False) -> Tensor:
    r"""Bits with $P(1) = \sigma(\text{logits})$, on the dtype and device of ``logits``.

    On the processor sixteen random bits decide most draws; where they tie with the threshold $2^{16} p$ a fresh
    double-precision uniform decides on its fraction. So P(1) is the sigmoid to the rounding of the dtype, relative to itself,
    without the floor of ``rand < p`` at $2^{-24}$. Two words of torch's generator seed every call, so that ``manual_seed`` and
    saved random states govern these bits too; the number of threads does not change them.

    Args:
        logits: any shape.
        overwrite: whether the bits may take the memory of the logits.

    Example:
        >>> import torch
        >>> bernoulli(torch.tensor([-torch.inf, torch.inf]))
        tensor([0., 1.])
    """
    if logits.dtype != torch.float32 or not _compiles(logits):
        # Detached in traces too, whose replays know no no_grad.
        return bernoulli_(torch.sigmoid(logits.detach()))
    logits = logits.detach() if logits.requires_grad else logits
    random_bits, team = _loops()
    bits = logits if overwrite else torch.empty_like(logits)
    team.run_team(random_bits.draw_from_single_logits, (logits, bits, seeds()), bits.numel())
    return bits


def bernoulli_(p: Tensor) -> Tensor:
    """Overwrite probabilities by bits drawn with them; returns the same tensor."""
    if p.dtype not in (torch.float32, torch.float64) or not _compiles(p):
        return p.copy_(torch.rand_like(p, dtype=torch.float64) < p)
    random_bits, team = _loops()
    loop = random_bits.draw_single if p.dtype == torch.float32 else random_bits.draw_double
    team.run_team(loop, (p, seeds()), p.numel())
    return p


def draw_at_temperatures(
    base: Tensor, fields: Tensor, betas: Tensor, source: Tensor | None = None, overwrite: bool = False
) -> Tensor | None:
    r"""Bits of the logits $\text{base} + \beta\,\text{field}$, rows at the temperatures in turn.

    Args:
        base: one logit per column.
        fields: ``rows x columns``.
        betas: inverse temperatures.
        source: for every row, the row whose fields it takes; by default its own.
        overwrite: whether the bits may take the memory of the fields; not with ``source``.

    Returns:
        ``rows x columns``; None where the loop does not take these tensors.
    """
    if not _tempered(base, fields):
        return None
    check_array("betas", betas, torch.float32, (len(betas),))
    if source is not None:
        check_indices("source", source, len(fields), len(fields))
    random_bits, team = _loops()
    bits = fields if overwrite else torch.empty_like(fields)
    betas = betas.detach().resolve_neg().contiguous()
    source_rows = fields.new_empty(0, dtype=torch.int64) if source is None else source.contiguous()
    sizes = (*fields.shape, len(betas), len(source_rows))
    team.run_team(random_bits.draw_single_at_temperatures, (base, fields, betas, source_rows, bits, seeds()), *sizes)
    return bits


def weigh_and_draw(base: Tensor, fields: Tensor, before: float, after: float) -> tuple[Tensor, Tensor] | None:
    r"""The rise of $\log \sum_h e^{-E}$ of a layer of bits by a change of temperature, and bits at the new temperature.

    Args:
        base: ``batch_shape x columns``, logits.
        fields: ``chains x batch_shape x columns``, or with other dimensions in front; the bits take their memory.
        before: the inverse temperature before.
        after: the one after, near it.

    Returns:
        the rise in nats, ``chains x batch_shape x 1``, and the bits; None where the loop does not take these tensors.
    """
    flat = is_plain(base) and is_plain(fields) and fields.numel() > 0 and 0 < base.dim() < fields.dim()
    if not flat or fields.shape[-base.dim() :] != base.shape or (base.dim() > 1 and base.shape[-1] < FEW_COLUMNS):
        return None
    bases, columns = base.shape[:-1].numel(), base.shape[-1]
    if not _tempered(base.view(bases, columns)[0], fields.view(-1, columns)):
        return None
    from . import rises, team

    betas = torch.tensor([before, after], dtype=torch.float64, device="cpu")
    summed = fields.new_empty(*fields.shape[:-1], 1)
    sizes = (summed.numel(), columns, bases)
    team.run_team(rises.weigh_and_draw, (betas, base, fields, summed, seeds()), *sizes)
    return summed, fields


FEW_COLUMNS = 32
"""The number of columns below which rows of a batch of machines leave most of the loop's registers empty."""


@functools.cache
def _loops() -> tuple[Any, Any]:
    """What is compiled, imported with the first large draw: finding modules anew takes as long as a thousand bits."""
    from . import random_bits, team

    return random_bits, team


_own = threading.local()


def seeds(pairs: int = 1) -> Tensor:
    """Pairs of words of torch's generator; one pair stands until the same thread asks for one again."""
    words: Tensor | None = getattr(_own, "words", None)
    if words is None or pairs > 1:
        with torch.inference_mode(False):  # else none could be written later outside of that mode
            words = torch.empty(2 * pairs, dtype=torch.int64, device="cpu")
        if pairs == 1:
            _own.words = words
    return words.random_(-(2**63), None)


def _compiles(x: Tensor) -> bool:
    return runs_at_once() and x.numel() >= FEW_DRAWS and is_plain(x)


def _tempered(base: Tensor, fields: Tensor) -> bool:
    """Whether there is one dimension of rows, enough of them, and nothing to differentiate."""
    if not runs_at_once():
        return False
    large = base.dim() == 1 and fields.dim() == 2 and fields.numel() >= FEW_DRAWS
    single = large and base.dtype is fields.dtype is torch.float32 and len(base) == fields.shape[1]
    return single and not torch.is_grad_enabled() and is_plain(base) and is_plain(fields)
