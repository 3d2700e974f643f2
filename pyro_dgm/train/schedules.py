"""Schedules of the step size: linear decay, and those of torch by their names."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler

LINEAR = "linear"

PER_STEP = ("OneCycleLR", "CyclicLR")
"""The schedules of torch that change the step size after every batch; the others do so after every epoch."""

PLATEAU = "ReduceLROnPlateau"
"""The schedule that looks at the monitored figure."""

NAMES = (
    "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR", "LinearLR", "MultiStepLR",
    "OneCycleLR", "PolynomialLR", PLATEAU, "StepLR",
)  # fmt: skip
"""The schedules of torch that numbers describe."""

HORIZONS = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps"}
"""Options that stand for the length of the training, and follow from it where they are not given."""

RATES = ("max_lr", "base_lr", "min_lr")
"""Options that are step sizes, of which torch takes one per group; one number is that of a group at ``learning_rate``."""


def bound_to_epochs(decay: str | None, options: dict[str, Any]) -> bool:
    """Whether the number of epochs changes the course of each of them."""
    return decay == LINEAR or (decay in HORIZONS and HORIZONS[decay] not in options and "epochs" not in options)


class Schedule:
    """The step sizes of an optimiser's groups in the course of a training.

    Args:
        decay: ``"linear"``, one of ``NAMES``, or None.
        options: the arguments of torch's schedule; what follows from the training may be left out (``T_max``, ``total_steps``,
            ``max_lr``). A number for ``max_lr``, ``base_lr`` or ``min_lr`` is multiplied by every group's factor of the learning
            rate.
        optimiser: the optimiser, whose groups have their first step sizes.
        steps: the batches of an epoch.
        epochs: the number of epochs.

    Raises:
        ValueError: options that the schedule does not have or refuses; a cycle that ends before the training does.
    """

    def __init__(
        self, decay: str | None, options: dict[str, Any], optimiser: Optimizer, steps: int, epochs: int
    ) -> None:
        self.decay, self.optimiser, self.total = decay, optimiser, steps * epochs
        self.rates = [group["lr"] for group in optimiser.param_groups]
        self.of_torch: Any = None
        if decay is None or decay == LINEAR:
            if options:
                raise ValueError(f"decay_options got {options}, but decay={decay!r} has none; leave them out")
            return
        found = dict(options)
        if bound_to_epochs(decay, options):
            found[HORIZONS[decay]] = epochs if decay == "CosineAnnealingLR" else self.total
        if decay == "OneCycleLR":
            found.setdefault("max_lr", self.rates)
        found |= {name: self._of_groups(found[name]) for name in RATES if name in found}
        if decay == PLATEAU:
            if "mode" in found:
                raise ValueError("decay_options got mode, which fit chooses itself: the monitored figure is to rise")
            found["mode"] = "max"
            found.setdefault("threshold_mode", "abs")  # relative ones take a negative figure's standstill for progress
        try:
            self.of_torch = getattr(lr_scheduler, decay)(optimiser, **found)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"decay_options got {options}: {decay} says {error}") from None
        if getattr(self.of_torch, "total_steps", self.total) < self.total:
            raise ValueError(
                f"decay_options got {options}, a cycle of {self.of_torch.total_steps} steps; the training has {self.total}"
            )

    def _of_groups(self, rate: Any) -> Any:
        """A step size of one group in proportion to those of all groups."""
        whole = self.optimiser.defaults["lr"]
        if not isinstance(rate, int | float) or all(own == whole for own in self.rates):
            return rate
        return [rate * (own / whole) for own in self.rates]

    def before_step(self, number: int) -> None:
        """Set the step size of a batch, counted from 0 at the beginning of the training."""
        if self.decay == LINEAR:
            share = 1 - number / self.total
            for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = rate * share

    def after_step(self, number: int) -> None:
        """Take note that the step of a batch was made."""
        if self.decay in PER_STEP and number + 1 < getattr(self.of_torch, "total_steps", math.inf):
            self._advance()

    def after_epoch(self, monitored: float | None) -> None:
        """Take note of the end of an epoch, and of its monitored figure, if it has one."""
        if self.of_torch is None or self.decay in PER_STEP:
            return
        if self.decay != PLATEAU:
            self._advance()
        elif monitored is not None:
            self.of_torch.step(monitored)

    def _advance(self) -> None:
        with warnings.catch_warnings():
            # Of an epoch in which no step was made, and of a last epoch that is stated.
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step|.*epoch parameter")
            self.of_torch.step()

    def figures(self) -> dict[str, float]:
        """The first group's step size, where a schedule of torch sets it."""
        return {} if self.of_torch is None else {"learning_rate": float(self.optimiser.param_groups[0]["lr"])}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the optimiser's state."""
        state = {} if self.of_torch is None else self.of_torch.state_dict()
        return {name: value for name, value in state.items() if _is_plain(value)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        if self.of_torch is not None:
            self.of_torch.load_state_dict(state)


def _is_plain(value: Any) -> bool:
    """Whether a value can be stored without code: functions of schedules follow from their options."""
    if isinstance(value, list | tuple):
        return all(_is_plain(entry) for entry in value)
    return value is None or isinstance(value, int | float | str | torch.Tensor)
