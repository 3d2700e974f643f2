"""The guard at the door: before a loop takes addresses, its arrays must be what it reads them as, whatever is switched off."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

PLAIN = (Tensor, torch.nn.Parameter)
"""Types of tensors whose memory is theirs; fake ones, functional ones and subclasses have none, or another layout."""


def runs_at_once() -> bool:
    """Whether operations do their work when they are called, on numbers.

    They do not while they are traced (``torch.jit.trace``, ``make_fx``), stood in for (fake tensors) or transformed
    (``torch.func``, forward-mode derivatives): what a loop does would be missing there.
    """
    recorded = torch._C._get_tracing_state() or torch._C._len_torch_dispatch_stack()
    return not recorded and torch._C._functorch.peek_interpreter_stack() is None and forward_ad._current_level < 0


def lies_flat(tensor: Tensor) -> bool:
    """Whether a tensor claims the processor's memory, its numbers one behind the other and with their own signs."""
    plain = type(tensor) in PLAIN and tensor.is_cpu and tensor.layout is torch.strided
    return plain and tensor.is_contiguous() and not tensor.is_neg()


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's numbers lie in the processor's memory, one behind the other and with their own signs."""
    try:
        return lies_flat(tensor) and bool(tensor.data_ptr() or not tensor.numel())
    except RuntimeError:  # tensors of torch.func and batched gradients have no memory of their own
        return False


def check_array(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Refuse an array of another type or shape than a loop reads it in; ``run_team`` looks where its memory is.

    Args:
        name: what messages call it.
        tensor: the array.
        dtype: the type of its numbers as the loop reads them.
        shape: its shape as the loop reads it.

    Raises:
        ValueError: another type or shape.
    """
    if tensor.dtype is not dtype or tensor.shape != shape:
        raise ValueError(
            f"{name} got {tensor.dtype} of shape {tuple(tensor.shape)}; expected {dtype} of shape {tuple(shape)}"
        )


def check_indices(name: str, tensor: Tensor, length: int, below: int) -> None:
    """Refuse indices that are not so many whole numbers from 0 to below a bound.

    Raises:
        ValueError: another type or shape, or a number out of range.
    """
    check_array(name, tensor, torch.int64, (length,))
    numbers = tensor.numpy()  # whose reductions take a third of torch's time on so few numbers
    if length and not (numbers.min() >= 0 and numbers.max() < below):
        raise ValueError(
            f"{name} got numbers from {numbers.min()} to {numbers.max()}; expected numbers from 0 to {below - 1}"
        )
