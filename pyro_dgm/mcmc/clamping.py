"""Clamps, the known entries of chains: the forms that they may be given in, and the number of chains that they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..checks import shown


def by_layer(visible: str, clamp: object) -> Mapping[str, Sequence[Tensor]]:
    """A clamp by layer, from one by layer or from that of the visible layer alone; empty if nothing is known.

    Raises:
        ValueError: it is neither a pair of mask and value nor a mapping to such pairs.
    """
    named = {visible: clamp} if isinstance(clamp, tuple | list) else clamp
    if named is None:
        return {}
    if not isinstance(named, Mapping):
        raise ValueError(
            f"clamp got {type(clamp).__name__}; expected (mask, value) of the visible layer, or {{layer: (mask, value)}}"
        )
    for layer, pair in named.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            count = f" of length {len(pair)}" if isinstance(pair, tuple | list) else ""
            raise ValueError(
                f"the clamp of {layer!r} got {type(pair).__name__}{count}; expected (mask, value): booleans, True where known, "
                "and the values there"
            )
    return named


def tensors_of(layer: str, pair: Sequence[Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """A clamp's mask and value of a layer as tensors on a device.

    Raises:
        ValueError: no arrays of real numbers, or a mask that is not boolean.
    """
    found = []
    for name, entries in zip(("mask", "value"), pair, strict=True):
        try:
            found.append(torch.as_tensor(entries, device=device))
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"the clamp's {name} of {layer!r} got {shown(entries)}; expected a tensor or an array of numbers"
            ) from None
    mask, value = found
    if mask.dtype != torch.bool:
        raise ValueError(f"the clamp's mask of {layer!r} has dtype {mask.dtype}; expected bool, True where known")
    if value.is_complex():
        raise ValueError(f"the clamp's value of {layer!r} has dtype {value.dtype}; expected real numbers")
    return mask, value


def expanded(layer: str, clamp: Sequence[Tensor], shape: torch.Size) -> tuple[Tensor, Tensor]:
    """A mask and values for every chain.

    Args:
        layer: the name for error messages.
        clamp: mask and value, as the kernel has checked them.
        shape: ``chains x batch_shape x layer shape``.

    Raises:
        ValueError: the clamp is for another number of chains.
    """
    for name, tensor in zip(("mask", "value"), clamp, strict=True):
        sizes = zip(reversed(tensor.shape), reversed(shape), strict=False)
        if tensor.dim() > len(shape) or any(a not in (1, b) for a, b in sizes):
            raise ValueError(
                f"the clamp's {name} of {layer!r} has shape {tuple(tensor.shape)} for {shape[0]} chains; expected one for all "
                f"chains, or a row for each: it must broadcast to {tuple(shape)}"
            )
    mask, value = (t.expand(shape) for t in clamp)
    return mask, value
