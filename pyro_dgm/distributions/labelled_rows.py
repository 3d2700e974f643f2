"""Rows of a distribution, each followed by a given label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from .support import RowSupport


class LabelledRows(dist.TorchDistribution):
    """Columns of a distribution followed by a given one-hot label: rows with another label have probability zero.

    Args:
        columns: the columns' distribution, of ``event_shape`` (visible,).
        label: ``... x classes``; the dimensions in front broadcast with the batch shape of the columns.

    Example:
        >>> import torch
        >>> rows = LabelledRows(dist.Normal(torch.zeros(3, 2), 1.0).to_event(1), torch.eye(3))
        >>> rows.sample().shape, rows.log_prob(torch.cat([torch.zeros(3, 2), torch.eye(3)], 1)).shape
        (torch.Size([3, 5]), torch.Size([3]))
    """

    arg_constraints = {}

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        return RowSupport(self.columns.support)

    def __init__(self, columns: Any, label: Tensor, validate_args: bool | None = None) -> None:
        batch_shape = torch.broadcast_shapes(columns.batch_shape, label.shape[:-1])
        self.columns, self.label = columns.expand(batch_shape), label.expand(*batch_shape, label.shape[-1])
        self.visible = columns.event_shape[0]
        event_shape = torch.Size([self.visible + label.shape[-1]])
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> LabelledRows:
        return LabelledRows(self.columns.expand(torch.Size(batch_shape)), self.label, self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        same = (value[..., self.visible :] == self.label).all(-1)
        return self.columns.log_prob(value[..., : self.visible]).masked_fill(~same, -torch.inf)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        drawn = self.columns.sample(torch.Size(sample_shape))
        return torch.cat([drawn, self.label.expand(*drawn.shape[:-1], -1)], -1)
