"""Padded sequences of frames as one distribution of flat rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor, nn

from ..data.sequences import split_frames
from .model import Evidence, RowSupport, check_rows


class PaddedFrames(dist.TorchDistribution):
    """Independent frames of padded rows, of which some exist: ``event_shape`` (frames x (features + 1),).

    Log-probabilities are those of the frames that exist, and minus infinity for a row of another length; its draws have the
    same lengths. In a sequence model the frames are independent given latents and earlier frames, so a draw is one frame ahead.

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

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> PaddedFrames:
        frames = self.frames.expand((*batch_shape, self.length))
        return PaddedFrames(frames, self.present.expand(*batch_shape, -1), validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        values, present = split_frames(value, self.features)
        each = self.frames.log_prob(values[..., : self.length, :])
        total = torch.where(self.present[..., : self.length], each, 0.0).sum(-1)
        return torch.where((present == self.present).all(-1), total, -torch.inf)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            return self.rows(self.expand(self.batch_shape).frames.sample(torch.Size(sample_shape)))

    def rows(self, values: Tensor) -> Tensor:
        """Values, ``... x T x features``, of which those of frames that exist are kept, as rows."""
        values = nn.functional.pad(values, (0, 0, 0, self.present.shape[-1] - self.length))
        present = self.present.unsqueeze(-1).expand(*values.shape[:-1], 1)
        return torch.cat([torch.where(present, values, 0.0), present.to(values)], -1).flatten(-2)


def join(*parts: Tensor) -> Tensor:
    """Tensors of one batch shape after broadcasting, side by side."""
    batch = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], -1)


def check_frames(visible: int, features: int, **sizes: int) -> None:
    """Refuse sizes below one, and a width that is no whole number of frames."""
    for name, size in {"visible": visible, "features": features, **sizes}.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} got {size!r}; expected an integer of at least 1")
    if visible % (features + 1):
        raise ValueError(
            f"visible got {visible} for features={features}; expected a multiple of {features + 1}: every frame has its "
            "values and a column that says whether it exists, as dgm.data.pad makes them"
        )


def check_width(x: Tensor, visible: int, name: str) -> None:
    """Refuse what is no matrix of finite numbers; it may have more or fewer frames than ``visible`` stands for."""
    check_rows(x, row_shape(x, visible), name)


def row_shape(x: Tensor, visible: int) -> torch.Size:
    """The shape of a row, which is that of the rows of any matrix."""
    return x.shape[1:] if isinstance(x, Tensor) and x.dim() == 2 else torch.Size([visible])


def mean_frames(x: Tensor, features: int) -> float:
    """Frames of a sequence, on average."""
    return float(split_frames(x, features)[1].sum(-1).double().mean())


def per_frame(found: Evidence, x: Tensor, features: int) -> Evidence:
    """The same with two more details: frames of a sequence on average, and nats a frame over all frames."""
    frames = mean_frames(x, features)
    counts = {"frames": frames, "nats_per_frame": float(found.values.double().mean()) / frames}
    return replace(found, details={**found.details, **counts})
