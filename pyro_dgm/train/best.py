"""Which epoch's weights are the best so far."""

from __future__ import annotations

import math
from typing import Any

from ..models.shared.model import Model
from .settings import Settings


class Best:
    """The best epoch of a run, by the first figure on validation rows, else by the first loss.

    Args:
        settings: they say whether the best weights are kept, and for how long none may be better.

    Attributes:
        figure: the best monitored figure; minus infinity before there is one.
        stale: the epochs since.
        weights: the weights of that epoch, None where they are not kept.
        epoch: that epoch, counted from 1.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.figure, self.stale = -math.inf, 0
        self.weights: dict[str, Any] | None = None
        self.epoch = 0

    def judge(self, epoch: int, monitored: float, model: Model) -> bool:
        """Whether a model is better after this epoch, counted from 0, than after any before."""
        improved = monitored > self.figure
        self.figure, self.stale = (monitored, 0) if improved else (self.figure, self.stale + 1)
        if improved and self.settings.keeps_best:
            self.epoch = epoch + 1
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return improved

    def patience_is_over(self) -> bool:
        return self.settings.patience is not None and self.stale >= self.settings.patience


def monitored(losses: dict[str, float], figures: dict[str, float]) -> float:
    """The figure by which epochs are compared: larger is better.

    >>> monitored({"loss": 2.0}, {"elbo": -3.0}), monitored({"loss": 2.0}, {"elbo": -3.0, "valid_elbo": -4.0})
    (-2.0, -4.0)
    """
    valid = next((value for name, value in figures.items() if name.startswith("valid_")), None)
    return -next(iter(losses.values())) if valid is None else valid
