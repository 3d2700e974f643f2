"""The standard normal, the prior of most latents, made once for so many rows."""

from __future__ import annotations

import functools

import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from ..native import runs_at_once


class StandardNormal(Normal):
    """A normal known to have mean 0 and deviation 1, of any shape; ``standard_normal`` makes it."""


def standard_normal(size: int, like: Tensor, x: Tensor | None = None) -> TorchDistribution:
    r"""$\mathcal N(0, I)$ of so many latents, of a tensor's precision and device: ``event_shape`` (size,).

    Programs make it at every step; the same object serves them all, since nothing in it is trained.

    Args:
        size: the number of latents.
        like: the tensor.
        x: rows, whose number is the batch shape; without them it is empty.

    Example:
        >>> prior = standard_normal(2, torch.zeros(()), torch.zeros(3, 5))
        >>> prior.batch_shape, prior.event_shape
        (torch.Size([3]), torch.Size([2]))
    """
    is_lasting = type(like) in (Tensor, torch.nn.Parameter) and runs_at_once()  # what a trace makes ends with it
    make = _standard_normal if is_lasting else _standard_normal.__wrapped__
    return make(size, None if x is None else len(x), like.dtype, like.device)


@functools.lru_cache(maxsize=16)
def _standard_normal(size: int, rows: int | None, dtype: torch.dtype, device: torch.device) -> TorchDistribution:
    with torch.inference_mode(False):  # else no later training could take its numbers
        zero = torch.zeros((), dtype=dtype, device=device)
        shape = (size,) if rows is None else (rows, size)
        return StandardNormal(zero.expand(shape), (zero + 1).expand(shape)).to_event(1)
