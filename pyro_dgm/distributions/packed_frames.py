"""Padded sequences whose frames that exist lie one after another in a single batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..data.sequences import join_frames, split_frames
from .around import Around
from .support import RowSupport


class PackedFrames(Around):
    """Padded rows whose frames have a distribution each, for those that exist alone: ``event_shape`` (T (features + 1),).

    A row's log-probability is the sum over its frames, and minus infinity where its length is another. In a model where a frame
    depends on earlier ones, a draw is right for the next frame alone.

    Args:
        frames: a distribution of ``batch_shape`` (..., N) and ``event_shape`` (features,), for the N frames that exist, row by
            row.
        present: booleans, ``rows x T``, with N ones.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> present = torch.tensor([[True, True], [True, False]])
        >>> rows = PackedFrames(dist.Normal(torch.zeros(3, 1), 1.0).to_event(1), present)
        >>> rows.sample().shape, rows.log_prob(rows.sample()).shape
        (torch.Size([2, 4]), torch.Size([2]))
    """

    arg_constraints = {"present": constraints.independent(constraints.boolean, 1)}

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        return RowSupport(self.frames.support)

    def __init__(self, frames: Any, present: Tensor, validate_args: bool | None = None) -> None:
        self.frames, self.present = frames, present
        self.features = frames.event_shape[0]
        event = torch.Size([present.shape[-1] * (self.features + 1)])
        batch_shape = frames.batch_shape[:-1] + present.shape[:-1]
        super().__init__(batch_shape, event, validate_args=validate_args)

    @property
    def inner(self) -> Any:
        return self.frames

    def around(self, inner: Any) -> PackedFrames:
        return PackedFrames(inner, self.present, self._validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> PackedFrames:
        batch_shape, rows = torch.Size(batch_shape), self.present.shape[:-1]
        copies = batch_shape[: len(batch_shape) - len(rows)]
        if batch_shape[len(copies) :] != rows:
            raise ValueError(
                f"rows of batch shape {tuple(self.batch_shape)} cannot be expanded to {tuple(batch_shape)}"
            )
        frames = self.frames.expand(torch.Size([*copies, self.frames.batch_shape[-1]]))
        return PackedFrames(frames, self.present, self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        values, present = split_frames(value, self.features)
        by_frame = self.frames.log_prob(values[..., self.present, :])
        total = by_frame.new_zeros(*by_frame.shape[:-1], *self.present.shape)
        total = total.masked_scatter(self.present.expand(total.shape), by_frame).sum(-1)
        return torch.where((present == self.present).all(-1), total, -torch.inf)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.rows(self.frames.sample(torch.Size(sample_shape)))

    def rows(self, frames: Tensor) -> Tensor:
        """The frames that exist, ``... x N x features``, as padded rows."""
        values = frames.new_zeros(*frames.shape[:-2], *self.present.shape, self.features)
        values[..., self.present, :] = frames
        return join_frames(values, self.present.expand(values.shape[:-1]))
