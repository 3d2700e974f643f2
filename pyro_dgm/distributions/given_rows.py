"""Rows of a distribution beside columns that are given."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..native import runs_at_once
from .around import Around
from .support import RowSupport


class GivenRows(Around):
    """Columns of a distribution beside given ones (a label, an input): rows with others have probability zero.

    Args:
        columns: the columns' distribution, of ``event_shape`` (visible,).
        given: ``... x given columns``; the dimensions in front broadcast with the batch shape of the columns.
        first: the given columns come before the others, instead of after them.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> rows = GivenRows(dist.Normal(torch.zeros(3, 2), 1.0).to_event(1), torch.eye(3))
        >>> rows.sample().shape, rows.log_prob(torch.cat([torch.zeros(3, 2), torch.eye(3)], 1)).shape
        (torch.Size([3, 5]), torch.Size([3]))
    """

    arg_constraints = {}

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        return RowSupport(self.columns.support)

    def __init__(self, columns: Any, given: Tensor, first: bool = False, validate_args: bool | None = None) -> None:
        batch_shape = torch.broadcast_shapes(columns.batch_shape, given.shape[:-1])
        self.columns, self.given = columns.expand(batch_shape), given.expand(*batch_shape, given.shape[-1])
        self.first = first
        event_shape = torch.Size([columns.event_shape[0] + given.shape[-1]])
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @property
    def inner(self) -> Any:
        return self.columns

    def around(self, inner: Any) -> GivenRows:
        return GivenRows(inner, self.given, self.first, self._validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> GivenRows:
        return GivenRows(self.columns.expand(torch.Size(batch_shape)), self.given, self.first, self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        sizes = [self.given.shape[-1], self.columns.event_shape[0]]
        parts = value.split(sizes if self.first else sizes[::-1], -1)
        given, columns = parts if self.first else parts[::-1]
        alike = (given == self.given).all(-1)
        if runs_at_once() and not alike.all():
            warnings.warn(
                f"{int((~alike).sum())} of {alike.numel()} rows have probability zero, since their given columns are others than "
                "those that the distribution was given: pass the rows to the program, as model(x), or their columns by name "
                "(given, label)",
                stacklevel=2,
            )
        return self.columns.log_prob(columns).masked_fill(~alike, -torch.inf)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws of the columns have a gradient."""
        return bool(self.columns.has_rsample)

    @property
    def mean(self) -> Tensor:
        """The columns' means beside the given ones."""
        return self._beside(self.columns.mean)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._beside(self.columns.rsample(torch.Size(sample_shape)))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._beside(self.columns.sample(torch.Size(sample_shape)))

    def _beside(self, columns: Tensor) -> Tensor:
        parts = [columns, self.given.expand(*columns.shape[:-1], -1)]
        return torch.cat(parts[::-1] if self.first else parts, -1)
