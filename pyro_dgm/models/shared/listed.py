"""All states of a few bits, for exact sums."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energy import NotEnumerable

ENTRIES = 1 << 22
"""Entries of the arrays that an exact sum holds at once: its states are split so that none has more."""


def bit_states(bits: int, like: Tensor, largest: int, name: str, instead: str) -> Tensor:
    """Every state of some bits: ``2^bits x bits``, on the device and of the type of ``like``.

    Args:
        bits: the number of bits.
        like: a tensor of the model.
        largest: the most bits whose states are listed.
        name: the bits' name, in the plural.
        instead: advice where there are more bits, a sentence.

    Raises:
        NotEnumerable: more bits than ``largest``.

    Example:
        >>> bit_states(2, torch.zeros(()), largest=12, name="spikes", instead="")
        tensor([[0., 0.],
                [1., 0.],
                [0., 1.],
                [1., 1.]])
    """
    if bits > largest:
        raise NotEnumerable(f"{bits} {name} have too many states; at most {largest} are listed. {instead}")
    places = torch.arange(bits, device=like.device)
    return (torch.arange(1 << bits, device=like.device).unsqueeze(-1) >> places & 1).to(like)
