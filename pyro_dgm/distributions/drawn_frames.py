"""Padded sequences whose frames are drawn one after another, by functions of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from .support import RowSupport


class DrawnFrames(TorchDistribution):
    """Padded sequences that a function draws, and whose distribution another makes of them: ``event_shape`` (columns,).

    Where frames depend on earlier ones, the distribution of all frames is known only for given rows.

    Args:
        draw: makes independent rows, ``n x columns``.
        law: the distribution of rows whose frames are those of its argument, ``n x columns``.
        columns: the number of columns of a draw.
        batch_shape: the rows of one draw.

    Example:
        >>> import pyro.distributions as dist
        >>> rows = DrawnFrames(lambda n: torch.ones(n, 2), lambda x: dist.Normal(x, 1.0).to_event(1), 2, (3,))
        >>> rows.sample().shape, rows.expand((4, 3)).log_prob(torch.zeros(4, 3, 2)).shape
        (torch.Size([3, 2]), torch.Size([4, 3]))
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self, draw: Callable[[int], Tensor], law: Callable[[Tensor], Any], columns: int, batch_shape: Sequence[int]
    ) -> None:
        self.draw, self.law = draw, law
        super().__init__(torch.Size(batch_shape), torch.Size([columns]), validate_args=False)

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        return RowSupport(constraints.boolean)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> DrawnFrames:
        return DrawnFrames(self.draw, self.law, self.event_shape[0], batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        rows = value.expand(*torch.broadcast_shapes(value.shape[:-1], self.batch_shape), value.shape[-1])
        flat = rows.reshape(-1, rows.shape[-1])
        found: Tensor = self.law(flat).log_prob(flat)
        return found.view(rows.shape[:-1])

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        return self.draw(math.prod(shape)).view(*shape, -1)
