"""The recursion over columns and its derivatives, by compiled loops."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .guard import check_array, check_indices


class RecursionDerivatives(NamedTuple):
    """Derivatives of a recursion by its arguments; None for one that is absent or was not asked for."""

    x: Tensor | None
    start: Tensor
    inputs: Tensor
    outputs: Tensor
    mask: Tensor | None
    scale: Tensor | None


def recursion_forward(
    x: Tensor,
    sums: Tensor,
    inputs: Tensor,
    outputs: Tensor,
    mask: Tensor | None,
    scale: Tensor | None,
    order: Tensor,
    rectified: bool,
) -> Tensor:
    """The numbers of every column; ``sums`` is overwritten by those at the last column.

    Args:
        x: ``rows x columns x features``, in single precision, as everything else but ``sums``.
        sums: the sums at the first column, ``rows x units``, in double precision and contiguous.
        inputs: W, ``columns x features x units``.
        outputs: V, ``columns x numbers x units``.
        mask: U, ``columns x units``, or None.
        scale: rho, ``columns``, or None.
        order: the order of the columns.
        rectified: whether units are rectified instead of squashed.

    Returns:
        ``rows x columns x numbers``.
    """
    from . import column_steps, team

    shape = _shape(x, inputs, outputs, mask, scale)
    arrays = [_plain(t) for t in (x, *_weights(inputs, outputs, mask, scale, order))]
    _check(shape, sums, *arrays)
    numbers = x.new_empty(len(x), *outputs.shape[:2])
    team.run_team(column_steps.forward_rows, [sums, *arrays, numbers], *shape, rectified)
    return numbers


def recursion_backward(
    x: Tensor,
    sums: Tensor,
    inputs: Tensor,
    outputs: Tensor,
    mask: Tensor | None,
    scale: Tensor | None,
    order: Tensor,
    rectified: bool,
    gradient: Tensor,
    by_x: bool,
) -> RecursionDerivatives:
    """The derivatives by the arguments, from the gradient of the numbers; other arguments as ``recursion_forward`` left them."""
    from . import column_steps, team

    shape = _shape(x, inputs, outputs, mask, scale)
    arrays = [_plain(t) for t in (x, *_weights(inputs, outputs, mask, scale, order), gradient)]
    _check(shape, sums, *arrays[:-1])
    check_array("gradient", arrays[-1], torch.float32, (*x.shape[:2], outputs.shape[1]))
    tiles = -(-sums.shape[1] // column_steps.TILE)
    d_start, d_x = torch.empty_like(sums, dtype=torch.float32), torch.zeros_like(arrays[0] if by_x else arrays[0][:0])
    d_inputs, d_mask, d_outputs = (torch.empty_like(t) for t in arrays[1:4])
    d_scales = x.new_zeros(tiles, arrays[4].numel(), dtype=torch.float64)
    derivatives = [d_start, d_x, d_inputs, d_mask, d_outputs, d_scales]
    team.run_team(column_steps.backward_tiles, [sums, *arrays, *derivatives], *shape, rectified, len(d_x))
    return RecursionDerivatives(
        d_x if by_x else None,
        d_start,
        d_inputs,
        d_outputs,
        None if mask is None else d_mask,
        None if scale is None else d_scales.sum(0).to(scale),
    )


def _check(
    shape: tuple[int, ...],
    sums: Tensor,
    x: Tensor,
    inputs: Tensor,
    mask: Tensor,
    outputs: Tensor,
    scale: Tensor,
    order: Tensor,
) -> None:
    """Refuse arrays that do not fit one another.

    Raises:
        ValueError: a shape, type or column that the loops would misread.
    """
    rows, columns, features, numbers, units, masked, scaled = shape
    check_array("sums", sums, torch.float64, (rows, units))
    check_array("x", x, torch.float32, (rows, columns, features))
    check_array("inputs", inputs, torch.float32, (columns, features, units))
    check_array("mask", mask, torch.float32, (masked, units) if masked else (0,))
    check_array("outputs", outputs, torch.float32, (columns, numbers, units))
    check_array("scale", scale, torch.float32, (scaled,))
    check_indices("order", order, columns, columns)


def _weights(
    inputs: Tensor, outputs: Tensor, mask: Tensor | None, scale: Tensor | None, order: Tensor
) -> tuple[Tensor, ...]:
    nothing = inputs.new_empty(0)
    return inputs, nothing if mask is None else mask, outputs, nothing if scale is None else scale, order


def _shape(x: Tensor, inputs: Tensor, outputs: Tensor, mask: Tensor | None, scale: Tensor | None) -> tuple[int, ...]:
    columns = x.shape[1]
    optional = (0 if mask is None else columns, 0 if scale is None else columns)
    return (*x.shape, outputs.shape[1], inputs.shape[-1], *optional)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().resolve_neg().contiguous()
