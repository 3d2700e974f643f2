"""log Z of a site under training, followed from step to step by chains that take no part in the gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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


class Followed:
    """The log Z of one machine, and the entropy, in nats; plain numbers, since so few are handled sooner than tensors.

    Attributes:
        log_z: the estimate.
        entropy: of the law of the chains; None before anything is known of it.
        trusted: whether the last step was small.
    """

    def __init__(self, log_z: float = 0.0, entropy: float | None = None, trusted: bool = True) -> None:
        self.log_z, self.entropy, self.trusted = log_z, entropy, trusted

    def follow(self, changes: Sequence[float]) -> float:
        """Add the change of log Z that changes of witnesses' log-probabilities show; returns how many nats count as travelled."""
        top, number = max(changes), len(changes)
        known = math.isfinite(top) and not any(map(math.isnan, changes))  # or else a witness had no probability before
        if not known:
            self.trusted = False
            return ANCHOR_NATS
        factors = [math.exp(change - top) for change in changes]
        mean = sum(factors) / number
        variance = sum((factor - mean) ** 2 for factor in factors) / max(number - 1, 1)
        # The logarithm of a mean over few is too small by half of its relative variance, which would add up step by step.
        change = top + math.log(mean) + variance / (2 * number * mean * mean)
        centre = sum(changes) / number
        deviations = [change - centre for change in changes]
        # A power that overflows is an error, where a product is infinite.
        self.trusted = sum(deviation * deviation for deviation in deviations) < TRUSTED * (number - 1)
        self.log_z += change
        return abs(change) if self.trusted else ANCHOR_NATS

    def leave(self, mean: float, at_anchor: bool) -> None:
        """Take note of the mean log-probability of all chains, up to log Z."""
        if at_anchor or self.entropy is None:
            self.entropy = self.log_z - mean
        elif math.isfinite(mean):
            self.log_z = self.log_z if self.trusted else mean + self.entropy
            self.entropy += SMOOTHING * (self.log_z - mean - self.entropy) if self.trusted else 0.0


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
        state: the state of an earlier run, as ``state`` has it.
    """

    def __init__(self, state: Mapping[str, Tensor] | None = None) -> None:
        if state is None:
            return
        self._collapsed, log_z = state["collapsed"], state["log_z"]
        shape = self._collapsed.shape[1:]
        entropy = state["entropy"].expand(shape).flatten().tolist() if "entropy" in state else None
        trusted = state.get("trusted", torch.tensor(True)).expand(shape).flatten().tolist()
        self._entries = [
            Followed(log_z, None if entropy is None else entropy[number], trusted[number])
            for number, log_z in enumerate(log_z.expand(shape).flatten().tolist())
        ]
        self._travelled, self._steps = float(state["travelled"]), int(state["steps"])
        self._age, self._rough = int(state.get("age", state["steps"])), bool(state.get("rough", False))

    @property
    def state(self) -> dict[str, Tensor]:
        """What a later run goes on from.

        ``log_z``; the witnesses' log-probabilities up to log Z under the last parameters, ``collapsed``; the entropy, once it is
        known; whether the last step was small, ``trusted``; how many nats log Z has ``travelled`` in how many ``steps`` since the
        last anchor; whether that one was ``rough``; and the ``age`` in steps.
        """
        shape = self._collapsed.shape[1:]

        def of_entries(name: str) -> Tensor:
            found = [getattr(entry, name) for entry in self._entries]
            return torch.tensor(found, dtype=torch.bool if name == "trusted" else torch.float64).view(shape)

        known = all(entry.entropy is not None for entry in self._entries)
        counts = {"steps": self._steps, "age": self._age, "rough": self._rough}
        return {
            "collapsed": self._collapsed,
            **{name: of_entries(name) for name in ("log_z", "trusted", *(("entropy",) if known else ()))},
            **{name: torch.tensor(count) for name, count in counts.items()},
            "travelled": torch.tensor(self._travelled, dtype=torch.float64),
        }

    @property
    def log_z(self) -> Tensor:
        """The estimate, of the shape of the parameters' batch."""
        found: Tensor = self._collapsed.new_tensor([entry.log_z for entry in self._entries])
        return found.view(self._collapsed.shape[1:])

    def begin(self, fn: EnergyDistribution, value: Tensor, collapsed: Tensor) -> None:
        """Find log Z, and record the witnesses' log-probabilities under the present parameters."""
        self._collapsed, self._entries = collapsed, [Followed() for _ in range(collapsed[0].numel())]
        self._age = 0
        self._anchor(fn, value)

    def follow(self, fn: EnergyDistribution, value: Tensor, collapsed: Tensor) -> None:
        """Find log Z under the present parameters: exactly, or by its change since the last ``leave`` as the witnesses'
        log-probabilities under these parameters show it."""
        if _listed(fn):
            self._anchor(fn, value)
            return
        changes = processes.gather(collapsed - self._collapsed)
        columns = changes.reshape(len(changes), -1).t().tolist()
        self._travelled += max(entry.follow(column) for entry, column in zip(self._entries, columns, strict=True))
        self._steps, self._age = self._steps + 1, self._age + 1
        least = min(max(self._age / 2, FIRST_STEPS), ANCHOR_STEPS)
        slow = self._steps >= 2 * ANCHOR_STEPS
        if fn.layered and self._steps >= least and (self._travelled > ANCHOR_NATS or (slow and self._rough)):
            self._anchor(fn, value, rough=not slow)

    def leave(self, collapsed: Tensor, mean: Tensor) -> None:
        """Record what the chains show under the present parameters.

        Args:
            collapsed: the witnesses' log-probabilities up to log Z.
            mean: the mean of those of all chains.
        """
        self._collapsed, means = collapsed, processes.mean(mean, 1).flatten().tolist()
        at_anchor = not self._steps or any(entry.entropy is None for entry in self._entries)
        if at_anchor and not all(map(math.isfinite, means)):
            return  # a state without probability says nothing of the entropy
        for entry, own_mean in zip(self._entries, means, strict=True):
            entry.leave(own_mean, at_anchor)

    def _anchor(self, fn: EnergyDistribution, value: Tensor, rough: bool = False) -> None:
        """Find log Z anew."""
        found = anchor(fn, value, rough).expand(self._collapsed.shape[1:]).flatten().tolist()
        for entry, log_z in zip(self._entries, found, strict=True):
            entry.log_z = log_z
        self._travelled, self._steps, self._rough = 0.0, 0, rough


def anchor(fn: EnergyDistribution, value: Tensor, rough: bool = False) -> Tensor:
    """log Z: exactly if that is cheap, else by a short annealing, or a rough one; zero if there is no annealing path."""
    if not fn.layered:
        return torch.zeros(())
    if log_states(fn.machine, {}) < _LISTED:
        return fn.exact_log_partition().detach()
    rows = processes.gather(value.detach().reshape(-1, *fn.event_shape))
    options = _ROUGH if rough else _ANCHOR
    chains, temperatures = max(options["chains"], 2 * processes.world()), options["temperatures"]
    found = log_partition(fn, "ais", chains=chains, temperatures=temperatures, base=rows, reverse=False).value
    return torch.as_tensor(found)


def _listed(fn: EnergyDistribution) -> bool:
    """Whether log Z is summed exactly at every step."""
    if not fn.layered:
        return False
    units = sum(unit.atoms for unit in fn.machine.graph.layers.values()) * fn.parameter_batch_shape.numel()
    return math.exp(min(log_states(fn.machine, {}), 50.0)) * units <= _LISTED_SUMS
