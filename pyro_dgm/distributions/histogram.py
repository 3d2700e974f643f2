"""Independent columns, each with a histogram and exponential tails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


class Histogram(dist.TorchDistribution):
    """Independent columns of that ``event_shape``; of values, ``known`` marks those that have a share in ``log_prob``."""

    arg_constraints: dict[str, Any] = {}
    support = dist.constraints.real_vector

    def __init__(
        self,
        knots: Tensor,
        logits: Tensor,
        batch_shape: Sequence[int] = (),
        validate_args: bool | None = None,
        known: Tensor | None = None,
    ) -> None:
        self.knots, self.logits, self.known = knots, logits, known
        super().__init__(torch.Size(batch_shape), knots.shape[:1], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Histogram:
        return Histogram(self.knots, self.logits, batch_shape, self._validate_args, self.known)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        height = torch.log_softmax(self.logits, -1) - self.knots.diff(dim=-1).log() + math.log1p(-2 * TAIL)
        flat = value.reshape(-1, len(self.knots)).T.contiguous()
        index = torch.searchsorted(self.knots, flat, right=True) - 1
        beyond = torch.maximum(self.knots[:, :1] - flat, flat - self.knots[:, -1:])
        scale = self.knots[:, -1:] - self.knots[:, :1]
        inside = height.gather(1, index.clamp(0, self.logits.shape[1] - 1))
        column_log_probs = torch.where(beyond > 0, math.log(TAIL) - scale.log() - beyond / scale, inside)
        column_log_probs = torch.where(flat.isnan(), flat, column_log_probs)
        column_log_probs = column_log_probs.T.reshape(value.shape)
        if self.known is not None:
            column_log_probs = torch.where(self.known, column_log_probs, 0.0)
        rows = column_log_probs.sum(-1)
        return rows.expand(torch.broadcast_shapes(self.batch_shape, value.shape[:-1]))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        with torch.no_grad():
            cumulative = torch.softmax(self.logits, -1).cumsum(-1)
            u = torch.rand(len(self.knots), math.prod(shape), device=self.knots.device, dtype=self.knots.dtype)
            u = u * cumulative[:, -1:]
            index = torch.searchsorted(cumulative, u, right=True).clamp_max(self.logits.shape[1] - 1)
            below = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], 1)
            lower, upper = below.gather(1, index), below.gather(1, index + 1)
            share = ((u - lower) / (upper - lower)).clamp(0, 1)
            left = self.knots.gather(1, index)
            x = left + share * (self.knots.gather(1, index + 1) - left)
            low, high = self.knots[:, :1], self.knots[:, -1:]
            side = torch.rand_like(x)
            far = (high - low) * torch.empty_like(x).exponential_()
            x = torch.where(side < TAIL, low - far, torch.where(side > 1 - TAIL, high + far, x))
        return x.T.reshape(*shape, len(self.knots))


TAIL = 1e-3
"""The probability that either tail of a histogram carries."""
