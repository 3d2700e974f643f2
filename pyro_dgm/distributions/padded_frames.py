"""Padded sequences of frames as one distribution over flat rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor, nn

from ..data.sequences import join_frames, split_frames
from .around import Around
from .support import RowSupport


class PaddedFrames(Around):
    """Padded rows of independent frames, of which some exist: ``event_shape`` (frames x (features + 1),).

    A row's log-probability is that of the frames that exist, and minus infinity where its length differs from the given
    one. Draws have the given lengths. In a sequence model the frames are independent given the latents and the earlier
    frames, so a draw is right for the next frame alone.

    Args:
        frames: a distribution of ``batch_shape`` ``... x T`` and ``event_shape`` (features,).
        present: booleans, ``... x T'``, T' at least T; nothing exists after T.
    """

    arg_constraints = {"present": constraints.independent(constraints.boolean, 1)}

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        return RowSupport(self.frames.support)

    def __init__(self, frames: dist.TorchDistribution, present: Tensor, validate_args: bool | None = None) -> None:
        self.frames, self.present = frames, present
        self.features, self.length = frames.event_shape[0], frames.batch_shape[-1]
        batch = torch.broadcast_shapes(frames.batch_shape[:-1], present.shape[:-1])
        super().__init__(batch, torch.Size([present.shape[-1] * (self.features + 1)]), validate_args=validate_args)

    @property
    def inner(self) -> dist.TorchDistribution:
        return self.frames

    def around(self, inner: dist.TorchDistribution) -> PaddedFrames:
        return PaddedFrames(inner, self.present, validate_args=self._validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> PaddedFrames:
        frames = self.frames.expand((*batch_shape, self.length))
        return PaddedFrames(frames, self.present.expand(*batch_shape, -1), validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        values, present = split_frames(value, self.features)
        frame_log_probs = self.frames.log_prob(values[..., : self.length, :])
        total = torch.where(self.present[..., : self.length], frame_log_probs, 0.0).sum(-1)
        return torch.where((present == self.present).all(-1), total, -torch.inf)

    @property
    def mean(self) -> Tensor:
        """The mean of every value, of the given lengths."""
        return self.rows(self.frames.mean.expand(*self.batch_shape, self.length, self.features))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            return self.rows(self.expand(self.batch_shape).frames.sample(torch.Size(sample_shape)))

    def rows(self, values: Tensor) -> Tensor:
        """Values, ``... x T x features``, as rows; those of frames that do not exist become zero."""
        values = nn.functional.pad(values, (0, 0, 0, self.present.shape[-1] - self.length))
        return join_frames(torch.where(self.present.unsqueeze(-1), values, 0.0), self.present)


def join(*tensors: Tensor) -> Tensor:
    """Join tensors along their last dimension, their other dimensions broadcast to one batch shape."""
    first = tensors[0].shape[:-1]
    if all(tensor.shape[:-1] == first for tensor in tensors):
        return torch.cat(tensors, -1)  # in a quarter of the time of broadcasting
    batch = torch.broadcast_shapes(*(tensor.shape[:-1] for tensor in tensors))
    return torch.cat([tensor.expand(*batch, tensor.shape[-1]) for tensor in tensors], -1)
