"""The settings of a run, its configuration, and checks of its folder and its devices."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch

from ..checks import check_choice, check_count, check_positive, check_seed, check_share, shown
from .optimisers import FUSED_ON, LOOPS, SGD, Adam, AdamW
from .schedules import LINEAR, NAMES

OPTIMISERS: dict[str, Any] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}

FUSED = ("adam", "adamw")
"""The optimisers that have a fused loop which pays; plain SGD gains nothing by its own."""


@dataclass
class Settings:
    """The settings that decide the course of training; a resumed run must agree on all but the number of epochs."""

    learning_rate: float
    optimiser: str
    decay: str | None
    batch_size: int
    epochs: int
    average: float | None
    patience: int | None
    seed: int
    keep: str = "last"
    optimiser_options: dict[str, Any] = field(default_factory=dict)
    decay_options: dict[str, Any] = field(default_factory=dict)
    clip: float | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        if self.decay is not None:
            check_choice("decay", self.decay, [LINEAR, *NAMES])
        self.epochs, self.batch_size = check_count("epochs", self.epochs), check_count("batch_size", self.batch_size)
        if self.patience is not None:
            self.patience = check_count("patience", self.patience, what="a number of epochs")
        check_choice("keep", self.keep, ("last", "best"))
        check_positive("learning_rate", self.learning_rate, "the first step size")
        self.learning_rate = float(self.learning_rate)
        if self.average is not None:
            check_share("average", self.average, "a decay such as 0.999")
            self.average = float(self.average)
        self.seed = check_seed(self.seed)
        if self.clip is not None:
            check_positive("clip", self.clip, "the largest norm of a step's gradients")
            self.clip = float(self.clip)
        check_choice("precision", self.precision, ("float32", "bfloat16"))
        for name, example in (("optimiser_options", "weight_decay"), ("decay_options", "gamma")):
            _check_stored(name, getattr(self, name), example)

    @property
    def keeps_best(self) -> bool:
        """Whether the finished model has the weights of the best epoch instead of the last."""
        return self.keep == "best" or self.patience is not None

    def make_optimiser(self, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
        """The optimiser of parameter groups, by torch's fused loops where there are any.

        Raises:
            ValueError: an option that the optimiser lacks or refuses.
        """
        if "lr" in self.optimiser_options:
            raise ValueError(f"optimiser_options got {self.optimiser_options}; the step size is learning_rate")
        chooses = self.optimiser_options.keys() & LOOPS
        fused = self.optimiser in FUSED and device.type in FUSED_ON and not chooses
        options = {"lr": self.learning_rate, **({"fused": True} if fused else {}), **self.optimiser_options}
        try:
            optimiser: torch.optim.Optimizer = OPTIMISERS[self.optimiser](groups, **options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"optimiser_options got {self.optimiser_options}: {error}") from None
        return optimiser


def _check_stored(name: str, options: Any, example: str) -> None:
    """Refuse options that a run's configuration cannot hold."""
    if not isinstance(options, dict):
        raise ValueError(f"{name} got {shown(options)}; expected a dictionary, as {{'{example}': 1e-4}}")
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} got a value that a run cannot store ({error}); expected numbers, texts, booleans and tuples of them"
        ) from None
