"""One step of the optimiser, on one process's share of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import processes
from ..objectives.objective import Turn
from .divergence import Watch

CLOCKS = ("seconds", "cpu_seconds")
"""Columns of the history that say how long an epoch took."""


class Steps:
    """Steps along the gradients of losses.

    Args:
        optimiser: its groups are those of the model and of the criterion.
        watch: what ends a training that diverges.
        clip: the largest norm of a step's gradients, or None.

    Attributes:
        trained: all parameters that the optimiser has.
    """

    def __init__(
        self, optimiser: torch.optim.Optimizer, trained: list[torch.nn.Parameter], watch: Watch, clip: float | None
    ) -> None:
        self.optimiser, self.trained, self.watch, self.clip = optimiser, trained, watch, clip

    def take(self, turn: Turn, weight: float, epoch: int, number: int) -> float:
        """Step the groups that the turn names along its loss's gradients; returns the mean loss over all processes."""
        self.optimiser.zero_grad(set_to_none=True)
        try:
            loss = turn.loss() * weight
        except (ValueError, torch.linalg.LinAlgError) as error:
            if not self.watch.explains(error, turn.loss):
                raise
            self.watch.stop(epoch, number, math.nan, error)
        loss.backward()
        value = float(processes.mean(loss.detach(), 1))
        if self.watch.is_bad(value):
            self.watch.stop(epoch, number, value)
        self._check(turn)
        for group in self.optimiser.param_groups:
            if turn.groups is not None and group.get("name") not in turn.groups:
                for parameter in group["params"]:
                    parameter.grad = None  # optimisers then skip the parameter, its moments and its count of steps
        processes.average_gradients(self.trained)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, self.clip)
        self.optimiser.step()
        self.watch.moved = True
        return value

    def _check(self, turn: Turn) -> None:
        """Refuse a turn whose name is taken in the history, or that moves groups that are not there."""
        groups = [str(group.get("name")) for group in self.optimiser.param_groups]
        if turn.name in ("epoch", "learning_rate", *CLOCKS):
            raise ValueError(f"a turn is called {turn.name!r}, which names another column of the history; rename it")
        if strange := sorted(set(turn.groups or ()) - set(groups)):
            raise ValueError(f"the turn {turn.name!r} moves the groups {strange}; the groups are {groups}")


def own_share(x: Tensor) -> tuple[Tensor, float]:
    """This process's rows of a batch, and the weight of their mean; a batch of fewer rows than processes goes to all in full."""
    world = processes.world()
    if len(x) < world:
        return x, 1.0
    rows = x[processes.rank() :: world]
    return rows, len(rows) * world / len(x)
