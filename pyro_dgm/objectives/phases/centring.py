"""Centred gradients of Boltzmann machines: offsets that follow the data, and a distribution with such gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import processes
from ...energy import BoltzmannDistribution
from ...energy.mean_field import mean_field
from .coordinates import centred, why_not_centred


class Centring:
    r"""Offsets $\mu$ of all statistics, which follow their means under the data, and gradients that are centred at them.

    (Montavon and Müller 2012; Melchior, Fischer and Wiskott 2016; ``centred`` has the mathematics.)

    Args:
        state: offsets saved from an earlier run.
        rate: the share of the new mean in the moving average, at every update.
        every: gradient steps between two updates of the offsets.
    """

    def __init__(self, state: dict[str, Any] | None = None, rate: float = 0.1, every: int = 10) -> None:
        self.state: dict[str, Any] = {"steps": 0, "offsets": {}} if state is None else state
        self.rate, self.every = rate, every

    def apply(self, fn: BoltzmannDistribution) -> BoltzmannDistribution:
        """The same distribution, with centred gradients.

        Raises:
            ValueError: its gradients cannot be centred.
        """
        if self.state["offsets"]:
            return fn.with_machine(centred(fn.machine, self.state["offsets"]))
        if reason := why_not_centred(fn.machine):
            raise ValueError(reason)
        return fn

    def update(self, fn: BoltzmannDistribution, value: Tensor) -> None:
        """Move the offsets towards the mean statistics of the data, at one step in ``every``."""
        self.state["steps"] += 1
        if self.state["steps"] % self.every != 1 and self.every > 1:
            return
        with torch.no_grad():
            machine = fn.machine
            fixed = {fn.visible: value.detach().to(fn.parameters()[0].dtype), **fn.known}
            hidden = mean_field(machine, fixed, rounds=1 if fn.restricted else 10).statistics
            means = {**machine.statistics(fixed), **hidden}
            new = {
                layer: tuple(processes.mean(t.flatten(0, -2).mean(0), len(value)) for t in statistics)
                for layer, statistics in means.items()
            }
            first = not self.state["offsets"]
            old = self.state["offsets"] or new
            self.state["offsets"] = {
                layer: tuple(torch.lerp(a, b, self.rate) for a, b in zip(old[layer], offsets, strict=True))
                for layer, offsets in new.items()
            }
        if first:
            centred(fn.machine, self.state["offsets"])  # refuses biases that cannot take the shift, before any step
