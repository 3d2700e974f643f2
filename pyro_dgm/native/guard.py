"""The guard at the door: before a loop takes addresses, its arrays must be what it reads them as, whatever is switched off."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)
"""Types of tensors whose memory is theirs; fake ones, functional ones and subclasses have none, or another layout."""


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's numbers lie in the processor's memory, one behind the other."""
    if type(tensor) not in PLAIN or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        return False
    try:
        return tensor.is_contiguous() and bool(tensor.data_ptr() or not tensor.numel())
    except RuntimeError:  # tensors of torch.func and batched gradients have no memory of their own
        return False


def check_array(name: str, tensor: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> None:
    """Refuse an array that a loop would misread.

    Args:
        name: what messages call it.
        tensor: the array.
        dtype: the type of its numbers as the loop reads them.
        shape: its shape as the loop reads it.

    Raises:
        ValueError: another type or shape, another device, memory that is not there or not contiguous.
    """
    if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape) or not is_plain(tensor):
        raise ValueError(
            f"{name} got {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
            f"{'' if is_plain(tensor) else ', which is not plain contiguous memory'}; expected {dtype} of shape "
            f"{tuple(shape)} in the processor's memory"
        )


def check_indices(name: str, tensor: Tensor, length: int, below: int) -> None:
    """Refuse indices that are not so many whole numbers from 0 to below a bound.

    Raises:
        ValueError: another type or shape, or a number out of range.
    """
    check_array(name, tensor, torch.int64, (length,))
    if length and not (int(tensor.min()) >= 0 and int(tensor.max()) < below):
        raise ValueError(
            f"{name} got numbers from {int(tensor.min())} to {int(tensor.max())}; expected numbers from 0 to {below - 1}"
        )
