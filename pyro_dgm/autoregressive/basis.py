"""Functions of the columns that a network sees beside the columns themselves (section 20.10.8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Basis(nn.Module):
    """The columns' numbers and functions of them, each with its degree: how many of the order's columns it needs.

    Args:
        kind: None for the columns alone, ``"pairs"`` with all products of two columns, ``"powers:K"`` with the powers 2 to K.
        rank: the place of every column in the order, from 0.
        features: numbers by which a column enters, F.

    Attributes:
        degrees: of every number that comes out.

    Raises:
        ValueError: another kind.

    Example:
        >>> Basis("pairs", torch.arange(3), 1)(torch.tensor([[[2.0], [3.0], [5.0]]]))
        tensor([[ 2.,  3.,  5.,  6., 10., 15.]])
    """

    degrees: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, kind: str | None, rank: Tensor, features: int) -> None:
        super().__init__()
        name, _, number = (kind or "").partition(":")
        self.powers = int(number) if name == "powers" and number.isdigit() else 1
        if kind not in (None, "pairs") and self.powers < 2:
            raise ValueError(f"basis got {kind!r}; expected None, 'pairs' or 'powers:K' with K of at least 2")
        own = 1 + rank.repeat_interleave(features)
        column = torch.arange(len(rank)).repeat_interleave(features)
        first, second = torch.combinations(torch.arange(len(own)), 2).unbind(1)
        apart = column[first] != column[second]
        if kind != "pairs":
            apart = torch.zeros_like(apart)
        self.register_buffer("first", first[apart], persistent=False)
        self.register_buffer("second", second[apart], persistent=False)
        products = torch.maximum(own[self.first], own[self.second])
        self.register_buffer("degrees", torch.cat([own.repeat(self.powers), products]), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """``batch_shape x D x F`` to ``batch_shape x numbers``."""
        x = features.flatten(-2)
        parts = [x, *(x**k for k in range(2, self.powers + 1))]
        if len(self.first):
            parts.append(x[..., self.first] * x[..., self.second])
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
