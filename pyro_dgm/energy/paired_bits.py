"""Machines of two layers of bits with one dense matrix between them, whose sums over a layer are one compiled pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..native import log_sum_of_layer
from .graph import Block, Graph


def sum_over_paired_bits(
    graph: Graph,
    biases: Mapping[str, tuple[Tensor, ...]],
    weights: Sequence[Tensor],
    summed: Sequence[Block],
    state: Mapping[str, Tensor],
) -> Tensor | None:
    r"""$\log\sum_h e^{-E(x, h)} = b^\top x + \sum_j \log(1 + e^{(x^\top W + c)_j})$ over one of the layers, ``rows``.

    None for other blocks, or where no compiled pass takes these tensors.
    """
    first, second = (end.layer for end in graph.interactions[0].ends)
    layer = summed[0].layer
    given = second if layer == first else first
    if len(summed) != 1 or summed[0].atoms is not None or given not in state:
        return None
    weight = weights[0] if layer == second else weights[0].mT
    return log_sum_of_layer(state[given], weight, biases[given][0], biases[layer][0])
