"""Training and evaluation modes, as dropout and batch normalisation know them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A block in which a model and its parts are in evaluation mode; afterwards each is in the mode that it was in."""
    with _in_mode(model, False):
        yield


@contextlib.contextmanager
def training(model: nn.Module) -> Iterator[None]:
    """A block in which a model and its parts are in training mode; afterwards each is in the mode that it was in."""
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
