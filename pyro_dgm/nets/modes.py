"""Training and evaluation modes, on which dropout and batch normalisation depend; frozen parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model and its parts in evaluation mode for a block; afterwards each has its earlier mode."""
    with _in_mode(model, False):
        yield


@contextlib.contextmanager
def training(model: nn.Module) -> Iterator[None]:
    """Put a model and its parts in training mode for a block; afterwards each has its earlier mode."""
    with _in_mode(model, True):
        yield


@contextlib.contextmanager
def _in_mode(model: nn.Module, mode: bool) -> Iterator[None]:
    before = {module: module.training for module in model.modules()}
    model.train(mode)
    try:
        yield
    finally:
        for module, was in before.items():
            module.training = was


@contextlib.contextmanager
def frozen_stay(model: nn.Module) -> Iterator[None]:
    """A block after which the model's frozen parameters (``requires_grad_(False)``) have the values that they had before."""
    frozen = [(parameter, parameter.clone()) for parameter in model.parameters() if not parameter.requires_grad]
    yield
    with torch.no_grad():
        for parameter, value in frozen:
            parameter.copy_(value)
