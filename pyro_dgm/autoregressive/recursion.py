"""The recursion of NADE: hidden units that take in one column after another (equation 20.83)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import native
from ..checks import check_choice

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "relu": torch.relu}
"""The hidden units' non-linearities."""

SLOPES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": lambda h: h * (1 - h), "relu": lambda h: (h > 0).to(h)}
"""The derivatives of the non-linearities, as functions of their outputs."""


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

    Along the order $a_{i+1} = a_i + \sum_f x_{if} W_{if} + U_i$, and the numbers are $V_i f(\rho_i a_i)$. It costs O(D h) per
    row. Besides arguments and results the memory is O(h) per row, forwards and backwards, since derivatives follow the
    recursion backwards and subtract from the sums what was added. On the processor, in single precision, a compiled loop
    does it with as many threads as torch has; the results do not depend on their number. There are no second derivatives,
    except by ``torch.func``, under which plain operations do it, in O(D h) memory per row.

    Args:
        x: features by column, ``batch_shape x D x F``.
        start: $a$ at the first column, ``h`` or ``batch_shape x h``.
        inputs: W, ``D x F x h``.
        outputs: V, ``D x P x h``.
        order: the columns in the order of their conditionals, ``D``; all other arguments are indexed by column.
        mask: U, the term that a column adds whatever its value, ``D x h``; or None.
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
    check_choice("activation", activation, ACTIVATIONS)
    batch = x.shape[:-2]
    units = inputs.shape[-1]
    rows = x.reshape(-1, *x.shape[-2:])
    sums = start.expand(*batch, units).reshape(-1, units)
    weights = (rows, sums, inputs, outputs, mask, scale)
    if not native.runs_at_once():
        return _by_operations(*weights, order, activation).view(*batch, *outputs.shape[:2])
    compiled = native.recursion_pays(len(rows), rows.shape[1], units, outputs.shape[1], weights)
    method = _Compiled if compiled else _Steps
    return method.apply(*weights, order, activation).view(*batch, *outputs.shape[:2])


def _by_operations(
    x: Tensor,
    sums: Tensor,
    inputs: Tensor,
    outputs: Tensor,
    mask: Tensor | None,
    scale: Tensor | None,
    order: Tensor,
    activation: str,
) -> Tensor:
    """The recursion by operations that torch can trace, transform and differentiate by itself, whatever the order holds."""
    x, inputs, outputs = x.index_select(1, order), inputs.index_select(0, order), outputs.index_select(0, order)
    mask, scale = (None if t is None else t.index_select(0, order) for t in (mask, scale))
    sums, numbers = sums.double(), []
    for place in range(len(outputs)):
        numbers.append(_hidden(sums, x.dtype, scale, place, activation) @ outputs[place].t())
        sums = sums + _change(x, inputs, mask, place).double()  # a compiled trace would not cast the gradient back
    return torch.stack(numbers, 1).index_select(1, order.argsort())


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
    """The change of the sums by one column."""
    change = x[:, column] @ inputs[column]
    return change if mask is None else change + mask[column]


class _Compiled(torch.autograd.Function):
    """The recursion by a compiled loop: threads share the rows in the forward pass and the hidden units in the backward pass."""

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
        sums = start.double().clone(memory_format=torch.contiguous_format)
        ctx.rectified = activation == "relu"
        numbers = native.recursion_forward(x, sums, inputs, outputs, mask, scale, order, ctx.rectified)
        ctx.save_for_backward(x, sums, inputs, outputs, mask, scale, order)
        return numbers

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, sums, inputs, outputs, mask, scale, order = ctx.saved_tensors
        derivatives = native.recursion_backward(
            x, sums, inputs, outputs, mask, scale, order, ctx.rectified, gradient, by_x=ctx.needs_input_grad[0]
        )
        return *derivatives, None, None
