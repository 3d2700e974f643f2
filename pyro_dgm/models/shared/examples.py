"""Tiny reproducible models with a batch of data, for ``Model.example``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ...data.sequences import join_frames
from .model import Model

M = TypeVar("M", bound=Model)


def seeded(make: Callable[[], M], batch: Callable[[], Tensor], scale: float | None = None) -> tuple[M, Tensor]:
    """Make a model and a batch with a fixed seed, without touching the caller's random state.

    Args:
        make: makes the model.
        batch: draws the batch.
        scale: draw all parameters from a normal distribution of this standard deviation, for a model whose first
            parameters are too small or too alike to show anything; None keeps them.

    Example:
        >>> import pyro_dgm as dgm
        >>> _, x = seeded(lambda: dgm.RBM(visible=6, hidden=4), lambda: bits(10, 6), scale=1.0)
        >>> x.shape
        torch.Size([10, 6])
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = make()
        if scale is not None:
            torch.default_generator.manual_seed(0)  # independent of what the model drew
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(scale * torch.randn(parameter.shape))
        return model, batch()


def bits(rows: int, columns: int) -> Tensor:
    """Fair coins: ``rows x columns``."""
    return torch.randint(0, 2, (rows, columns)).float()


def sequences(rows: int = 10, frames: int = 4, features: int = 2) -> Tensor:
    """Padded sequences of fair coins, of 1 to ``frames`` frames each, as ``dgm.data.pad`` makes them."""
    values = bits(rows, frames * features).unflatten(1, (frames, features))
    present = torch.arange(frames) < torch.randint(1, frames + 1, (rows, 1))
    return join_frames(values * present.unsqueeze(-1), present)
