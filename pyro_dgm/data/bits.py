"""Bits in the place of numbers."""

import torch
from torch import Tensor


def as_bits(bits: Tensor, grey: Tensor) -> Tensor:
    """Booleans as bits in the precision of the grey levels, and NaN where these have no value."""
    return torch.where(grey.isnan(), grey, bits.to(grey.dtype))


def nearer_bits(grey: Tensor) -> Tensor:
    """Grey levels as the nearer bits: 1 above a half, otherwise 0; NaN stays NaN.

    >>> nearer_bits(torch.tensor([0.2, 0.5, 0.51]))
    tensor([0., 0., 1.])
    """
    return as_bits(grey > 0.5, grey)
