"""log Z of a site under training, followed from step to step by chains that take no part in the gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ... import processes
from ...annealing import log_partition
from ...energy import EnergyDistribution, log_states

ANCHOR_STEPS, ANCHOR_NATS = 200, 20.0
"""log Z is found anew once the parameters have moved it so far since the last time, but not more often than that."""

_LISTED = 9.0
"""The log-number of states up to which log Z is summed exactly at an anchor."""


class Tracking:
    r"""An estimate of $\log Z$: an anchor, and since then $\log\operatorname{mean} e^{F_{old} - F_{new}}$ over witnesses.

    It may drift, and is good enough for score-function rewards and a readable loss. A distribution without layers has no
    annealing path: its log Z is counted from zero.

    Args:
        state: that of an earlier run.

    Attributes:
        state: ``log_z``; the witnesses' log-probabilities up to log Z under the last parameters, ``collapsed``; and how many
            nats log Z has ``travelled`` in how many ``steps`` since the last anchor.
    """

    def __init__(self, state: dict[str, Tensor] | None = None) -> None:
        self.state: dict[str, Tensor] = {} if state is None else state

    def begin(self, fn: EnergyDistribution, value: Tensor, collapsed: Tensor) -> None:
        """Find log Z, with the witnesses' log-probabilities as they are."""
        self.state = {"collapsed": collapsed, **anchor(fn, value)}

    def follow(self, fn: EnergyDistribution, value: Tensor, collapsed: Tensor) -> None:
        """Take in the last change of the parameters, by the witnesses as they were left."""
        changes = processes.gather(collapsed - self.state["collapsed"])
        change = changes.logsumexp(0) - math.log(len(changes))
        self.state["log_z"] = self.state["log_z"] + change
        self.state["travelled"] = self.state["travelled"] + change.abs().max()
        self.state["steps"] = self.state["steps"] + 1
        far = self.state["steps"] >= ANCHOR_STEPS and self.state["travelled"] > ANCHOR_NATS
        if far and fn.layered:
            self.state |= anchor(fn, value)

    def leave(self, collapsed: Tensor) -> None:
        """Note the witnesses' log-probabilities under the parameters as they are now."""
        self.state["collapsed"] = collapsed


def anchor(fn: EnergyDistribution, value: Tensor) -> dict[str, Tensor]:
    """Find log Z: exactly where that is cheap, else by a short annealing; zero where there is no path."""
    zero = torch.zeros((), device=value.device)
    if not fn.layered:
        log_z = zero
    elif log_states(fn.machine, {}) < _LISTED:
        log_z = fn.exact_log_partition().detach()
    else:
        rows = processes.gather(value.detach().reshape(-1, *fn.event_shape))
        chains = max(50, 2 * processes.world())
        log_z = log_partition(fn, "ais", chains=chains, temperatures=300, base=rows, reverse=False).value
    return {"log_z": log_z, "travelled": zero, "steps": zero}
