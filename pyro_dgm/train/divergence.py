"""When training has diverged, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pyro
import torch
from torch import Tensor

from ..columns import constant
from ..data import Dataset
from ..data.stored import spread_rows
from ..energy import NotFinite
from ..models.shared.model import Model
from ..models.shared.rows import not_finite


class TrainingDiverged(RuntimeError):
    """Raised when the loss becomes NaN, infinite or absurdly large; the last good checkpoint is kept."""


class Watch:
    """Judges the losses and weights of a run.

    Args:
        model: what is trained.
        data: what it is trained on.
        weights: all that the optimiser moves.
        learning_rate: its rate, which messages name.

    Attributes:
        moved: whether a step was made: before one, neither it nor its size is the reason.
        kept: the folder of a checkpoint that is there if training ends now, or None.
    """

    def __init__(self, model: Model, data: Dataset, weights: list[Tensor], learning_rate: float) -> None:
        self.model, self.data, self.weights, self.learning_rate = model, data, weights, learning_rate
        self.limit = 1e4 * data.visible
        self.moved = False
        self.kept: Path | None = None

    def is_bad(self, loss: float) -> bool:
        return not math.isfinite(loss) or abs(loss) > self.limit

    def finite(self) -> bool:
        """Whether all weights are below 1e10: with larger ones a likelihood overflows in single precision."""
        return all(bool((p.abs() < 1e10).all()) for p in self.weights)

    def explains(self, error: Exception, loss: Callable[[], Tensor]) -> bool:
        """Whether an error of a loss is a check of arguments that met the NaN, infinity or zero before the loss did."""
        if isinstance(error, NotFinite | torch.linalg.LinAlgError):
            return self.moved
        if not self.finite():
            return True
        try:
            with torch.no_grad(), pyro.validation_enabled(False):
                return self.is_bad(float(loss()))
        except (ValueError, RuntimeError):
            return False

    def _constant_columns(self) -> str:
        """A sentence on columns that hold one value, if the model is a density of them."""
        x = spread_rows(self.data.train.x)
        still = constant(x).nonzero().flatten().tolist() if x.dim() == 2 else []
        try:
            with pyro.validation_enabled(False):
                if not still or self.model.measure(x[:1]) != "density":
                    return ""
        except (ValueError, RuntimeError):  # the weights may be NaN by now
            return ""
        named = ", ".join(map(str, still[:5])) + (", …" if len(still) > 5 else "")
        return (
            f" {len(still)} of {x.shape[1]} columns hold one value in the {len(x)} rows looked at ({named}), where a density can "
            'grow without limit: leave them out, add noise of the size of a step, or take preprocessing="standardised".'
        )

    def stop(self, epoch: int, step: int, loss: float, cause: Exception | None = None) -> NoReturn:
        """End training at a step of an epoch, both counted from 0.

        Raises:
            TrainingDiverged: always.
        """
        if self.moved:
            checkpoint = f" The last good checkpoint in {self.kept} is kept." if self.kept is not None else ""
            raise TrainingDiverged(
                f"the loss became {loss:g} in epoch {epoch + 1}, step {step + 1}; training stopped.{checkpoint}"
                f"{self._constant_columns()} Try a smaller learning_rate than {self.learning_rate:g}."
            ) from cause
        if reason := not_finite(self.model):
            raise TrainingDiverged(f"the loss is {loss:g} before any step was made: {reason}") from cause
        x = spread_rows(self.data.train.x)
        low, high, spread = (float(v) for v in (x.min(), x.max(), x.std(0).max()))
        raise TrainingDiverged(
            f"the loss is {loss:g} before any step was made, so the learning rate is not the reason. The data reach from "
            f"{low:g} to {high:g}, and the widest column has the standard deviation {spread:g}: standardise the columns, "
            "or start from parameters that fit them (model.initialise(x))"
        ) from cause


def of_parameters(error: Exception) -> bool:
    """Whether an error is a distribution's refusal of its parameters, or of values that were computed with them."""
    return any(words in str(error) for words in ("Expected parameter", "Expected value argument"))
