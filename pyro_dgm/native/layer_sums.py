"""Sums over a layer of bits, given rows of bits that a matrix couples it to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import processor
from .guard import is_plain, runs_at_once
from .precision import rounds_products
from .products import chunks_of, multiplies_by_units


def log_sum_of_layer(x: Tensor, weight: Tensor, bias: Tensor, plus: Tensor) -> Tensor | None:
    r"""$b^\top x + \sum_j \log(1 + e^{(x^\top W + c)_j})$ of rows x, in nats, as one node of the graph.

    Args:
        x: bits, ``rows x n``.
        weight: W, ``n x m``, stored by rows or by columns.
        bias: b, ``n``.
        plus: c, ``m``.

    Returns:
        ``rows``; None where this does not pay, where the loop does not take these tensors, or where x has other numbers than
        bits or something is not finite.
    """
    parameters = weight, bias, plus
    if x.dim() != 2 or weight.dim() != 2 or not processor.single_on_processor((x, *parameters)):
        return None
    (rows, inner), columns = x.shape, weight.shape[1]
    if not processor.multiplies_bits(rows, weight.numel()) or min(rows, columns, inner // 2) < processor.TABLE_ROWS:
        return None
    fit = weight.shape[0] == inner and bias.shape == (inner,) and plus.shape == (columns,)
    stored = weight if weight.is_contiguous() else weight.t()
    plain = all(is_plain(t) for t in (x, stored, bias, plus))
    if not (fit and plain) or x.requires_grad or torch.is_autocast_enabled("cpu") or rounds_products():
        return None
    if x[0, 0].item() not in (0.0, 1.0):
        return None
    kept = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters)
    found: Tensor | None = _LayerSum.apply(x, *parameters, kept)
    return found


class _LayerSum(torch.autograd.Function):
    """The loop, and its gradient by another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, plus: Tensor, kept: bool) -> Tensor | None:
        from . import layer_sum_loops, tables, team

        (rows, inner), columns = x.shape, weight.shape[1]
        transposed = not weight.is_contiguous()
        tiles, chunks = -(-inner // tables.TILE), chunks_of(rows, columns)
        words, flag = x.new_empty(tiles, rows, dtype=torch.int32), x.new_zeros(1, dtype=torch.int64)
        fields, slopes, found = x.new_empty(rows, columns), x.new_empty(rows if kept else 0, columns), x.new_empty(rows)
        by_units = multiplies_by_units()
        team.run_team(
            layer_sum_loops.sum_out_by_units if by_units else layer_sum_loops.sum_out_by_tables,
            (x, words, weight.t() if transposed else weight, bias, plus, fields, found, slopes, flag),
            *(rows, inner, columns, tiles, transposed, chunks, kept),
        )
        if flag.item():
            return None
        ctx.save_for_backward(x, weight, plus, slopes)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight, plus, slopes = ctx.saved_tensors
        of_rows = gradients[0].contiguous()
        if torch.is_grad_enabled():  # to be differentiated again
            slopes = -torch.sigmoid(torch.addmm(plus, x, weight))
        elif (
            runs_at_once() and is_plain(of_rows) and processor.multiplies_bits(x.shape[1], slopes.numel(), across=True)
        ):
            found = _gradients(x, slopes, of_rows, across=not weight.is_contiguous())
            if found is not None:
                return None, *found, None
        weighted = -of_rows.unsqueeze(-1) * slopes
        return None, x.t() @ weighted, of_rows @ x, weighted.sum(0), None


def _gradients(x: Tensor, slopes: Tensor, of_rows: Tensor, across: bool) -> tuple[Tensor, Tensor, Tensor] | None:
    """The gradients by W, b and c; None where they are not finite. With ``across`` that by W lies in memory as its transpose."""
    from . import layer_sum_loops, tables, team

    (rows, inner), columns = x.shape, slopes.shape[1]
    tiles = -(-rows // tables.TILE)
    words, flag = x.new_empty(tiles, inner, dtype=torch.int32), x.new_zeros(1, dtype=torch.int64)
    by_weight = x.new_empty(columns, inner) if across else x.new_empty(inner, columns)
    by_bias, by_plus, weighted = x.new_empty(inner), x.new_empty(columns), torch.empty_like(slopes)
    by_units = multiplies_by_units()
    team.run_team(
        layer_sum_loops.differentiate_by_units if by_units else layer_sum_loops.differentiate_by_tables,
        (x, words, slopes, of_rows, weighted, by_weight, by_bias, by_plus, flag),
        *(rows, inner, columns, tiles, across, chunks_of(inner, columns)),
    )
    if flag.item():
        return None
    return by_weight.t() if across else by_weight, by_bias, by_plus
