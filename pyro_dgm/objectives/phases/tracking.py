"""log Z of a site under training, followed from step to step by chains that take no part in the gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ... import processes
from ...annealing import log_partition
from ...energy import EnergyDistribution, log_states

ANCHOR_STEPS, ANCHOR_NATS = 400, 20.0
"""The least number of steps between two anchors once training is as old, and of nats that log Z has moved between them."""

FIRST_STEPS = 25
"""The number of steps before the second anchor."""

TRUSTED = 1.0
"""The variance of the witnesses' changes up to which the mean of their exponentials says how log Z changed, in nats²."""

SMOOTHING = 0.1
"""The weight of a step in the running mean of the entropy."""

_ANCHOR, _ROUGH = {"chains": 50, "temperatures": 300}, {"chains": 20, "temperatures": 100}
"""The annealing of an anchor, and of one that is left behind soon since log Z moves fast."""

_LISTED = 9.0
"""The log of the number of states up to which log Z is summed exactly at an anchor."""

_LISTED_SUMS = 2**14
"""The number of states times units up to which log Z is summed at every step, in some half a millisecond."""


class Tracking:
    r"""An estimate of $\log Z$: an anchor, and what two kinds of chains' states tell of its change since then.

    - **Small steps.** $\log\operatorname{mean} e^{F_{old} - F_{new}}$ over witnesses is the change, with the half of its relative
      variance by which it is too small. Of ten witnesses of changes with a variance of 0.3 it is then too small by 0.002 nats a
      step, and near ``TRUSTED`` by 0.1, since the same witnesses say that the step is small; it is too small, too, where chains
      mix slowly, since they linger in states whose energy training raises.
    - **Large steps**, where that variance is above ``TRUSTED``: such means would be wrong by nats at every step. Then
      $\log Z = E[-F] + H$, with the mean over all chains, and with the entropy H as small steps or the last anchor left it. It
      is wrong by as much as the entropy has changed since, and by the mean's error, but these do not add up.

    Where few states have to be listed, log Z is exact at every step. The estimate is good enough for score-function rewards and
    a readable loss, and a loss made of it is no likelihood. A distribution without layers has no annealing path: its
    log Z is counted from zero.

    Args:
        state: the state of an earlier run.

    Attributes:
        state: ``log_z``; the witnesses' log-probabilities up to log Z under the last parameters, ``collapsed``; the entropy;
            whether the last step was small, ``trusted``; how many nats log Z has ``travelled`` in how many ``steps`` since the
            last anchor; whether that one was ``rough``; and the ``age`` in steps.
    """

    def __init__(self, state: dict[str, Tensor] | None = None) -> None:
        self.state: dict[str, Tensor] = {} if state is None else state

    def begin(self, fn: EnergyDistribution, value: Tensor, collapsed: Tensor) -> None:
        """Find log Z, and record the witnesses' log-probabilities under the present parameters."""
        self.state = {"collapsed": collapsed, **anchor(fn, value)}
        self.state["age"] = self.state["steps"]

    def follow(self, fn: EnergyDistribution, value: Tensor, collapsed: Tensor) -> None:
        """Find log Z under the present parameters: exactly, or by its change since the last ``leave`` as the witnesses'
        log-probabilities under these parameters show it."""
        if _listed(fn):
            self.state |= anchor(fn, value)
            return
        changes = processes.gather(collapsed - self.state["collapsed"])
        top = changes.amax(0)
        variance, mean = torch.var_mean((changes - top).exp_(), 0)  # logsumexp takes four times as long on ten numbers
        # The logarithm of a mean over few is too small by half of its relative variance, which would add up step by step.
        change = top + mean.log() + variance / (2 * len(changes) * mean.square())
        known = change.isfinite()  # or else a witness had no probability, now or before
        change = torch.where(known, change, 0.0)
        self.state["trusted"] = trusted = (changes.var(0) < TRUSTED) & known
        self.state["log_z"] = self.state["log_z"] + change
        self.state["travelled"] = self.state["travelled"] + torch.where(trusted, change.abs(), ANCHOR_NATS).max()
        self.state["steps"] = self.state["steps"] + 1
        self.state["age"] = age = self.state.get("age", self.state["steps"]) + 1
        steps, far = self.state["steps"], self.state["travelled"] > ANCHOR_NATS
        least = min(max(float(age) / 2, FIRST_STEPS), ANCHOR_STEPS)
        slow = steps >= 2 * ANCHOR_STEPS
        if fn.layered and steps >= least and (far or (slow and self.state.get("rough"))):
            self.state |= anchor(fn, value, rough=not slow)

    def leave(self, collapsed: Tensor, mean: Tensor) -> None:
        """Record what the chains show under the present parameters.

        Args:
            collapsed: the witnesses' log-probabilities up to log Z.
            mean: the mean of those of all chains.
        """
        state, mean = self.state, processes.mean(mean, 1)
        state["collapsed"] = collapsed
        known = mean.isfinite()  # a state without probability says nothing of the entropy
        if "entropy" not in state or not state["steps"]:
            if bool(known.all()):
                state["entropy"] = state["log_z"] - mean
            return
        trusted, entropy = state["trusted"], state["entropy"]
        state["log_z"] = torch.where(trusted | ~known, state["log_z"], mean + entropy)
        moved = entropy + SMOOTHING * (state["log_z"] - mean - entropy)
        state["entropy"] = torch.where(trusted & known, moved, entropy)


def anchor(fn: EnergyDistribution, value: Tensor, rough: bool = False) -> dict[str, Tensor]:
    """Find log Z: exactly if that is cheap, else by a short annealing, or a rough one; zero if there is no annealing path."""
    zero = torch.zeros((), device=value.device)
    if not fn.layered:
        log_z = zero
    elif log_states(fn.machine, {}) < _LISTED:
        log_z = fn.exact_log_partition().detach()
    else:
        rows = processes.gather(value.detach().reshape(-1, *fn.event_shape))
        options = _ROUGH if rough else _ANCHOR
        chains = max(options["chains"], 2 * processes.world())
        temperatures = options["temperatures"]
        log_z = log_partition(fn, "ais", chains=chains, temperatures=temperatures, base=rows, reverse=False).value
    return {"log_z": log_z, "travelled": zero, "steps": zero, "rough": zero + rough}


def _listed(fn: EnergyDistribution) -> bool:
    """Whether log Z is summed exactly at every step."""
    if not fn.layered:
        return False
    units = sum(unit.atoms for unit in fn.machine.graph.layers.values()) * fn.parameter_batch_shape.numel()
    return math.exp(min(log_states(fn.machine, {}), 50.0)) * units <= _LISTED_SUMS
