"""Shifts of biases, by which a context gives every row a machine of its own."""

from __future__ import annotations

import torch
from torch import Tensor


def shifted(bias: Tensor, shift: Tensor | None, name: str) -> Tensor:
    """Biases and the shift added to them: ``batch_shape x units``.

    Args:
        bias: the biases of a layer, ``... x units``.
        shift: ``batch_shape x units``, or one number for all units; None for no shift.
        name: the name of the argument in the message.

    Raises:
        ValueError: a shift of another number of units, as a network with another number of outputs gives it.

    Example:
        >>> shifted(torch.zeros(3), torch.zeros(40, 5), "hidden_shift")
        Traceback (most recent call last):
        ...
        ValueError: hidden_shift got shape (40, 5); expected batch_shape x 3, a number for each unit of the layer
    """
    if shift is None:
        return bias
    shape, units = tuple(torch.as_tensor(shift).shape), bias.shape[-1]
    if shape and shape[-1] not in (1, units):
        raise ValueError(
            f"{name} got shape {shape}; expected batch_shape x {units}, a number for each unit of the layer"
        )
    return bias + shift
