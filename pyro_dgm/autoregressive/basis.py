"""Functions of the columns that a network sees besides the columns themselves (section 20.10.8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Basis(nn.Module):
    """The columns' features and functions of them, each with a degree: the number of the order's first columns it needs.

    Args:
        kind: None for the columns alone, ``"pairs"`` with all products of two columns, ``"powers:K"`` with the powers 2 to K.
        columns: the number of columns, D.
        features: numbers that stand for a column's value, F.

    Raises:
        ValueError: another kind.

    Example:
        >>> Basis("pairs", 3, 1)(torch.tensor([[[2.0], [3.0], [5.0]]]))
        tensor([[ 2.,  3.,  5.,  6., 10., 15.]])
    """

    column: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, kind: str | None, columns: int, features: int) -> None:
        super().__init__()
        name, _, number = (kind or "").partition(":")
        self.powers = int(number) if name == "powers" and number.isdigit() else 1
        if kind not in (None, "pairs") and self.powers < 2:
            raise ValueError(f"basis got {kind!r}; expected None, 'pairs' or 'powers:K' with K of at least 2")
        column = torch.arange(columns).repeat_interleave(features)
        first = second = torch.zeros(0, dtype=torch.long)
        if kind == "pairs":
            first, second = torch.combinations(torch.arange(len(column)), 2).unbind(1)
            apart = column[first] != column[second]
            first, second = first[apart], second[apart]
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)

    def degrees(self, rank: Tensor) -> Tensor:
        """The degree of every output, where ``rank`` is the place of every column in the order, from 0."""
        degrees = 1 + rank[self.column]
        return torch.cat([degrees.repeat(self.powers), torch.maximum(degrees[self.first], degrees[self.second])])

    def forward(self, features: Tensor) -> Tensor:
        """Map ``batch_shape x D x F`` to ``batch_shape x outputs``."""
        x = features.flatten(-2)
        outputs = [x, *(x**k for k in range(2, self.powers + 1))]
        if len(self.first):
            outputs.append(x[..., self.first] * x[..., self.second])
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
