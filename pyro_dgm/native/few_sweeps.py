"""A few Gibbs sweeps of layers of bits, for parameters that change after them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import processor
from .draws import seeds
from .guard import is_plain
from .packed import Flow, check_parts, weights_for
from .precision import rounds_products
from .products import multiplies_by_units


def sweep_bits(
    biases: Sequence[Tensor], order: Sequence[int], flows: Sequence[Flow], states: Sequence[Tensor], sweeps: int
) -> list[Tensor] | None:
    """All layers after some Gibbs sweeps, drawn in words of bits; words of torch's generator seed every call.

    Args:
        biases: one vector per layer.
        order: the layer of every block, in the order in which they are drawn.
        flows: the couplings at every block.
        states: bits of every layer, ``rows x units``.
        sweeps: their number.

    Raises:
        ValueError: parts that do not fit one another.

    Returns:
        Every layer; None where this does not pay, where the loop does not take these tensors, or where a layer holds other
        numbers than bits.
    """
    stored = [weight if weight.is_contiguous() else weight.t() for _, _, weight in flows]
    tensors = (*biases, *stored, *states)
    if not (processor.single_on_processor(tensors) and all(map(is_plain, tensors))) or torch.is_autocast_enabled("cpu"):
        return None
    check_parts(biases, order, flows)
    rows, sizes = states[0].shape[0], [len(bias) for bias in biases]
    if [state.shape for state in states] != [(rows, size) for size in sizes] or rounds_products():
        return None
    if not (rows and stored and all(processor.multiplies_bits(rows, weight.numel()) for weight in stored)):
        return None
    from . import short_sweeps, team

    words = [
        x.new_empty(-(-size // processor.TILE), rows, dtype=torch.int32) for x, size in zip(states, sizes, strict=True)
    ]
    moved, flag = [torch.empty_like(x) for x in states], torch.zeros(1, dtype=torch.int64)
    arrays, forms = weights_for([weight.detach() for _, _, weight in flows], sweeps)
    ends = [number for (place, source, _), form in zip(flows, forms, strict=True) for number in (place, source, form)]
    counts = (rows, len(biases), len(order), len(flows), sweeps, multiplies_by_units())
    tensors = (seeds(), *biases, *words, *arrays, *states, *moved, flag)
    team.run_team(short_sweeps.sweep_numbers, tensors, *counts, *sizes, *order, *ends)
    return None if flag.item() else moved
