"""The recursion of NADE: hidden units that take in one column after another (equation 20.83)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "relu": torch.relu}
"""The hidden units' non-linearities."""

SLOPES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": lambda h: h * (1 - h), "relu": lambda h: (h > 0).to(h)}
"""Their derivatives, from what they return."""

LARGE = 1 << 21
"""Hidden units, over all rows and columns, from which on the compiled loop is worth its import."""

FEW = 8
"""Numbers a column up to which the compiled loop is faster than torch's products of matrices."""

TILE = 256
"""Hidden units whose derivatives are found together: their weights stay in the second-level cache."""


def recursion(
    x: Tensor,
    start: Tensor,
    inputs: Tensor,
    outputs: Tensor,
    order: Tensor,
    mask: Tensor | None = None,
    scale: Tensor | None = None,
    activation: str = "sigmoid",
) -> Tensor:
    r"""Every column's numbers from hidden units that saw the columns before it (20.83; Larochelle and Murray 2011).

    Along the order $a_{i+1} = a_i + \sum_f x_{if} W_{if} + U_i$, and the numbers are $V_i f(\rho_i a_i)$. It costs O(D h) a
    row; beside arguments and results the memory is O(h) a row, in either direction, because derivatives follow the
    recursion backwards and take out what was put in. On the processor, in single precision, a compiled loop does it, on
    as many threads as torch has; what it returns does not depend on their number. Derivatives of derivatives are not
    available.

    Args:
        x: features by column, ``batch_shape x D x F``.
        start: $a$ at the first column, ``h`` or ``batch_shape x h``.
        inputs: W, ``D x F x h``.
        outputs: V, ``D x P x h``.
        order: the columns in the order of their conditionals, ``D``; everything else is numbered by column.
        mask: U, what a column adds whatever its value, ``D x h``; or None.
        scale: $\rho$, ``D``, or None for ones.
        activation: f, ``"sigmoid"`` or ``"relu"``.

    Returns:
        ``batch_shape x D x P``.

    Raises:
        ValueError: another activation.

    Example:
        >>> x, order = torch.ones(5, 3, 1), torch.tensor([2, 0, 1])
        >>> recursion(x, torch.zeros(4), torch.zeros(3, 1, 4), torch.ones(3, 1, 4), order)[0].flatten()
        tensor([2., 2., 2.])
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation got {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
    batch = x.shape[:-2]
    units = inputs.shape[-1]
    rows = x.reshape(-1, *x.shape[-2:])
    sums = start.expand(*batch, units).reshape(-1, units)
    weights = (rows, sums, inputs, outputs, mask, scale)
    large = rows.shape[0] * rows.shape[1] * units >= LARGE and outputs.shape[1] <= FEW
    compiled = large and x.device.type == "cpu" and all(t is None or t.dtype == torch.float32 for t in weights)
    method = _Compiled if compiled else _Steps
    return method.apply(*weights, order, activation).view(*batch, *outputs.shape[:2])


class _Steps(torch.autograd.Function):
    """The recursion by torch's operations, all rows at once."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        start: Tensor,
        inputs: Tensor,
        outputs: Tensor,
        mask: Tensor | None,
        scale: Tensor | None,
        order: Tensor,
        activation: str,
    ) -> Tensor:
        numbers = x.new_empty(len(x), *outputs.shape[:2])
        sums = start.to(torch.float64, copy=True)
        path = order.tolist()
        for i, following in zip(path, [*path[1:], None], strict=True):
            numbers[:, i] = _hidden(sums, x.dtype, scale, i, activation) @ outputs[i].t()
            if following is not None:
                sums += _change(x, inputs, mask, i)
        ctx.save_for_backward(x, inputs, outputs, mask, scale, order, sums)
        ctx.activation = activation
        return numbers

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, inputs, outputs, mask, scale, order, end = ctx.saved_tensors
        by_x, _, by_inputs, by_outputs, by_mask, by_scale, *_ = ctx.needs_input_grad
        d_x, d_inputs, d_outputs, d_mask, d_scale = (
            torch.zeros_like(a) if need else None
            for a, need in ((x, by_x), (inputs, by_inputs), (outputs, by_outputs), (mask, by_mask), (scale, by_scale))
        )
        sums, d_sums = end.clone(), torch.zeros_like(end, dtype=x.dtype)
        path = order.tolist()
        for place, i in reversed(list(enumerate(path))):
            if place < len(path) - 1:
                if d_x is not None:
                    d_x[:, i] = d_sums @ inputs[i].t()
                if d_inputs is not None:
                    d_inputs[i] = x[:, i].t() @ d_sums
                if d_mask is not None:
                    d_mask[i] = d_sums.sum(0)
                sums -= _change(x, inputs, mask, i)
            h = _hidden(sums, x.dtype, scale, i, ctx.activation)
            if d_outputs is not None:
                d_outputs[i] = gradient[:, i].t() @ h
            by_scaled = (gradient[:, i] @ outputs[i]).mul_(SLOPES[ctx.activation](h))
            if d_scale is not None:
                d_scale[i] = (by_scaled * sums).sum()
            d_sums += by_scaled if scale is None else by_scaled * scale[i]
        return d_x, d_sums, d_inputs, d_outputs, d_mask, d_scale, None, None


def _hidden(sums: Tensor, dtype: torch.dtype, scale: Tensor | None, column: int, activation: str) -> Tensor:
    single = sums.to(dtype)
    return ACTIVATIONS[activation](single if scale is None else single * scale[column])


def _change(x: Tensor, inputs: Tensor, mask: Tensor | None, column: int) -> Tensor:
    """What a column adds to the sums."""
    change = x[:, column] @ inputs[column]
    return change if mask is None else change + mask[column]


class _Compiled(torch.autograd.Function):
    """The recursion by a compiled loop: threads share the rows on the way there and the hidden units on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        start: Tensor,
        inputs: Tensor,
        outputs: Tensor,
        mask: Tensor | None,
        scale: Tensor | None,
        order: Tensor,
        activation: str,
    ) -> Tensor:
        numbers = x.new_empty(len(x), *outputs.shape[:2])
        sums = start.double().clone(memory_format=torch.contiguous_format)
        weights = (_array(inputs, 3), _array(mask, 2), _array(outputs, 3), _array(scale, 1), order.numpy())
        relu, rows = activation == "relu", _array(x, 3)
        share = max(-(-len(x) // torch.get_num_threads()), 1)

        def run(first: int) -> None:
            here = slice(first, first + share)
            _loops().forward(sums[here].numpy(), rows[here], *weights, relu, numbers[here].numpy())

        _together(run, range(0, len(x), share), torch.get_num_threads())
        ctx.save_for_backward(x, inputs, outputs, mask, scale, order, sums)
        ctx.activation = activation
        return numbers

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, inputs, outputs, mask, scale, order, sums = ctx.saved_tensors
        by_x, relu, units = ctx.needs_input_grad[0], ctx.activation == "relu", sums.shape[1]
        weights = [_array(inputs, 3), _array(mask, 2), _array(outputs, 3)]
        found = [np.empty_like(a) for a in weights]
        rows, scales, path, incoming = _array(x, 3), _array(scale, 1), order.numpy(), _array(gradient, 3)
        d_start = np.empty(sums.shape, np.float32)
        d_x = np.zeros_like(rows if by_x else rows[:0])
        tiles = [slice(k, min(k + TILE, units)) for k in range(0, units, TILE)]
        d_scales = np.zeros((len(tiles), scales.size))

        def run(number: int) -> None:
            tile = tiles[number]
            tile_weights = [np.ascontiguousarray(a[..., tile]) for a in weights]
            derivatives = [np.zeros_like(a) for a in tile_weights]
            d_sums = np.zeros((len(rows), tile.stop - tile.start), np.float32)
            arrays = (*tile_weights, scales, path, relu, incoming, d_sums, d_x, *derivatives, d_scales[number])
            _loops().backward(np.ascontiguousarray(sums.numpy()[:, tile]), rows, *arrays)
            d_start[:, tile] = d_sums
            for whole, part in zip(found, derivatives, strict=True):
                whole[..., tile] = part

        # All tiles add to the derivatives by x: one after another, so that they are summed in one order.
        _together(run, range(len(tiles)), 1 if by_x else torch.get_num_threads())
        d_inputs, d_mask, d_outputs = map(torch.from_numpy, found)
        d_scale = None if scale is None else torch.from_numpy(d_scales.sum(0)).to(scale)
        return (
            torch.from_numpy(d_x) if by_x else None,
            torch.from_numpy(d_start),
            d_inputs,
            d_outputs,
            None if mask is None else d_mask,
            d_scale,
            None,
            None,
        )


def _array(tensor: Tensor | None, dimensions: int) -> Any:
    """A tensor as a contiguous array; without one an array that is empty."""
    if tensor is None:
        return np.empty((0,) * dimensions, np.float32)
    return tensor.detach().contiguous().numpy()


def _together(run: Callable[[int], None], numbers: range, threads: int) -> None:
    """Call a function with every number, on so many threads at once."""
    if min(threads, len(numbers)) == 1:
        for number in numbers:
            run(number)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, numbers))


@functools.cache
def _loops() -> ModuleType:
    from . import columns

    return columns
