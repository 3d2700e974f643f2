"""Columns of data in their own units, brought to mean 0 and variance 1 for a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..columns import RESOLUTION, mean_and_deviation


class ColumnScaling(nn.Module):
    """The affine map from data's columns to standardised ones, $z = (x - m) / s$; the identity until ``fit``.

    It is no parameter and is not trained. Weights that were saved without it load as those of the identity.

    Args:
        columns: the number of columns, D.

    Attributes:
        mean: m, ``D``.
        scale: s, ``D``.

    Example:
        >>> scaling = ColumnScaling(2)
        >>> scaling.fit(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
        >>> scaling(torch.tensor([[3.0, 6.0]])), scaling.back(torch.tensor([[2.0, 1.0]]))
        (tensor([[2., 1.]]), tensor([[3., 6.]]))
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("scale", torch.ones(columns))

    @torch.no_grad()
    def fit(self, x: Tensor, which: Tensor | None = None) -> None:
        """Take the means and standard deviations of rows, ``rows x D``; NaN stands for a missing value.

        Args:
            x: the rows. A constant column keeps its scale; that of others is not below what their precision tells apart.
            which: booleans, ``D``: the columns that are scaled, by default all.
        """
        mean, scale = mean_and_deviation(x.double())
        resolved = RESOLUTION * torch.finfo(x.dtype).eps * mean.abs()
        scale = torch.where(scale > 0, torch.maximum(scale, resolved), 1.0)
        chosen = torch.ones_like(mean, dtype=torch.bool) if which is None else which.to(x.device)
        self.mean.copy_(torch.where(chosen, mean, 0.0))
        self.scale.copy_(torch.where(chosen, scale, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised columns, ``... x D``."""
        return (x - self.mean) / self.scale

    def back(self, z: Tensor) -> Tensor:
        """Columns in the data's units, ``... x D``."""
        return self.mean + self.scale * z

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, value in (("mean", torch.zeros_like(self.mean)), ("scale", torch.ones_like(self.scale))):
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *rest)
