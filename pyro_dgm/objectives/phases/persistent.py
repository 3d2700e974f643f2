"""Negative samples by persistent chains (PCD)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import processes
from ...annealing import log_partition
from ...energy import BoltzmannDistribution, EnergyDistribution, State, log_states
from ...mcmc import ChainsKernel
from .chains import ChainsPhase, MakeKernel, _from_visible
from .fast_weights import FastWeights, average_to

ANCHOR_STEPS, ANCHOR_NATS = 200, 20.0
"""PCD finds log Z anew once the parameters have moved it so far since the last time, but not more often than that."""


class PCD(ChainsPhase):
    r"""Stochastic maximum likelihood: chains that persist between gradient steps (Younes 1999; Tieleman 2008).

    The surrogate's value follows $\log Z$: annealed importance sampling finds it at the first step, and again whenever
    training has moved it far; in between every step adds $\log\operatorname{mean} e^{F_{old} - F_{new}}$ over a few
    further chains that take no part in the gradient (over the gradient's own chains that mean is biased downwards,
    since the step was made to raise their energy). It is an estimate that may drift, good enough for score-function
    rewards and a readable loss; figures come from ``dgm.log_likelihood``. A distribution that is no Boltzmann machine has
    no annealing path: its log Z is counted from zero at the first step.

    Args:
        k: steps of the chains (Gibbs sweeps, for a Boltzmann distribution) a gradient step; a pair as in ``dgm.CD``.
        chains: persistent chains, shared by the processes where there are several.
        centred: centre the gradient (20.36-37).
        kernel: what moves the chains, a function from the distribution to a kernel; by default ``dgm.BlockGibbs``, or
            ``dgm.HMC`` where there is only a free energy.
        mean_field: rounds of mean field from the chains' states, whose independent means then take their place in the
            gradient (20.4.4, for deep machines); 0 sums the first colour out of the sampled states instead.
        fast: the learning rate of fast weights: the chains are moved by a machine with offsets that follow the gradient
            and decay, so that they leave modes in which they linger (Tieleman and Hinton 2009). The witnesses of log Z are
            moved without them.
        fast_decay: the share of the fast weights that is left after a step.

    Raises:
        ValueError: ``k`` is no positive integer or pair of them, or ``chains`` no positive integer; ``mean_field`` or
            ``fast`` is negative or ``fast_decay`` outside [0, 1); at the site, a context that differs from row to row (a
            chain belongs to no row; use ``CD``), or fast weights or mean field of a distribution that is no Boltzmann machine.
    """

    def __init__(
        self,
        k: int | tuple[int, int] = 1,
        chains: int = 100,
        *,
        centred: bool = False,
        kernel: MakeKernel | None = None,
        mean_field: int = 0,
        fast: float | None = None,
        fast_decay: float = 0.95,
    ) -> None:
        super().__init__(k, centred, kernel)
        if not isinstance(mean_field, int) or mean_field < 0:
            raise ValueError(f"mean_field got {mean_field!r}; expected a number of rounds, 0 for none")
        if fast is not None and not 0 <= fast < math.inf:
            raise ValueError(f"fast got {fast!r}; expected the fast weights' learning rate, at least 0, or None")
        if not 0 <= fast_decay < 1:
            raise ValueError(f"fast_decay got {fast_decay!r}; expected the share that a step leaves, in [0, 1)")
        if not isinstance(chains, int) or isinstance(chains, bool) or chains < 1:
            raise ValueError(f"chains got {chains!r}; expected the number of persistent chains, at least 1")
        self.total, self.mean_field = chains, mean_field
        self.chains: dict[str, State] = {}
        self.tracked: dict[str, dict[str, Tensor]] = {}
        self.fast, self.fast_decay = fast, fast_decay
        self.fast_weights: dict[str, FastWeights] = {}

    @property
    def number(self) -> int:
        """This process's chains."""
        return processes.share(self.total, "chains")

    @property
    def witnesses(self) -> int:
        """This process's further chains, by which log Z is followed."""
        return max(self.number // 10, 8)

    def claim(self, owner: Any) -> None:
        processes.share(self.total, "chains")  # refuses too few
        super().claim(owner)

    def negatives(self, site: str, fn: EnergyDistribution, value: Tensor) -> State:
        _refuse_rowwise(site, fn, value)
        kernel = self.chains_kernel(site, fn)
        if not self._fits(site, fn, kernel):
            self._start(site, fn, kernel, value)
        state = self.chains[site]
        if self.fast is not None:
            state = self._fast_step(site, fn, kernel, value)
            left = 0
        elif self.kernel is None and isinstance(fn, BoltzmannDistribution):
            machine = fn.machine
            fields = machine.colour_fields(machine.colours[0], state)
            theirs = [tuple(e[self.number :] for e in torch.broadcast_tensors(*eta)) for eta in fields]
            witnesses = {layer: x[self.number :] for layer, x in state.items()}
            self._track(site, fn, value, machine.collapsed(machine.colours[0], witnesses, theirs))
            state = machine.sweep(state, first=fields)
            left = self.k - 1
        else:
            witnesses = {layer: x[self.number :] for layer, x in kernel.draws(state).items()}
            self._track(site, fn, value, fn.collapsed(witnesses))
            left = self.k
        for _ in range(left):
            state = kernel.sample(state)
        self.chains[site] = state
        return kernel.draws(state)

    def _fast_step(self, site: str, fn: EnergyDistribution, kernel: ChainsKernel, value: Tensor) -> State:
        """Move the chains by the fast weights and the witnesses without, and let the fast weights learn."""
        if not isinstance(fn, BoltzmannDistribution):
            raise ValueError(f"site {site!r} is a {type(fn).__name__}, which has no fast weights; pass fast=None")
        parts = slice(None, self.number), slice(self.number, None)
        chains, witnesses = ({layer: x[part] for layer, x in self.chains[site].items()} for part in parts)
        self._track(site, fn, value, fn.collapsed(kernel.draws(witnesses)))
        weights = self.fast_weights.setdefault(site, FastWeights(self.fast or 0.0, self.fast_decay))
        moving = self.chains_kernel(site, weights.apply(site, fn))
        for _ in range(self.k):
            chains, witnesses = moving.sample(chains), kernel.sample(witnesses)
        weights.update(fn, value, moving.draws(chains))
        return {layer: torch.cat([x, witnesses[layer]]) for layer, x in chains.items()}

    def _track(self, site: str, fn: EnergyDistribution, value: Tensor, collapsed: Tensor) -> None:
        """Follow log Z over the last change of the parameters, by the witnesses as they were left."""
        tracked = self.tracked[site]
        changes = processes.gather(collapsed - tracked["collapsed"])
        change = changes.logsumexp(0) - math.log(len(changes))
        tracked["log_z"] = tracked["log_z"] + change
        tracked["travelled"] = tracked["travelled"] + change.abs().max()
        tracked["steps"] = tracked["steps"] + 1
        if tracked["steps"] >= ANCHOR_STEPS and tracked["travelled"] > ANCHOR_NATS:
            if isinstance(fn, BoltzmannDistribution):
                tracked |= self._anchor(fn, value)

    def surrogate(self, site: str, fn: EnergyDistribution, collapsed: Tensor) -> Tensor:
        tracked = self.tracked[site]
        witnesses = collapsed[self.number :].detach()
        if self.mean_field:
            drawn = self.chains_kernel(site, fn).draws(self.chains[site])
            with torch.no_grad():
                witnesses = fn.collapsed({layer: x[self.number :] for layer, x in drawn.items()})
        tracked["collapsed"] = witnesses
        surrogate = average_to(collapsed[: self.number], fn.parameter_batch_shape)
        return surrogate - surrogate.detach() + tracked["log_z"]

    def sampler(self, site: str, fn: EnergyDistribution) -> Callable[[torch.Size], Tensor] | None:
        if site not in self.chains or fn.parameter_batch_shape:
            return None

        def from_chains(shape: torch.Size) -> Tensor:
            kernel = self.chains_kernel(site, fn)
            rows = kernel.draws(self.chains[site])[fn.visible]
            chosen = torch.randperm(max(len(rows), shape.numel()), device=rows.device)[: shape.numel()] % len(rows)
            return rows[chosen].view(*shape, *fn.event_shape)

        return from_chains

    def options(self) -> dict[str, Any]:
        fast = {} if self.fast is None else {"fast": self.fast, "fast_decay": self.fast_decay}
        means = {"mean_field": self.mean_field} if self.mean_field else {}
        return {**super().options(), "chains": self.total, **means, **fast}

    @property
    def sums_out(self) -> bool:
        return not self.mean_field

    def collapsed(self, fn: EnergyDistribution, state: State) -> Tensor:
        if not self.mean_field:
            return super().collapsed(fn, state)
        if not isinstance(fn, BoltzmannDistribution):
            raise ValueError(f"mean_field got a {type(fn).__name__}, which has no layers; pass mean_field=0")
        with torch.no_grad():
            machine = fn.machine
            means = machine.mean_field({}, self.mean_field, start=machine.statistics(state)).statistics
        return machine._value(means)

    def _fits(self, site: str, fn: EnergyDistribution, kernel: ChainsKernel) -> bool:
        if site not in self.chains:
            return False
        lead = (self.number + self.witnesses, *fn.parameter_batch_shape)
        kept = {layer: x.shape for layer, x in kernel.draws(self.chains[site]).items()}
        return kept == {layer: lead + shape for layer, shape in fn.shapes.items()}

    def _start(self, site: str, fn: EnergyDistribution, kernel: ChainsKernel, value: Tensor) -> None:
        state = self.chains[site] = self._first(fn, kernel, value)
        self.fast_weights.pop(site, None)
        witnesses = {layer: x[self.number :] for layer, x in kernel.draws(state).items()}
        self.tracked[site] = {"collapsed": fn.collapsed(witnesses), **self._anchor(fn, value)}

    def _first(self, fn: EnergyDistribution, kernel: ChainsKernel, value: Tensor) -> State:
        """Where the chains start: at data rows, which are where a trained machine's chains would be, or where the kernel says."""
        plain = self.kernel is None and isinstance(fn, BoltzmannDistribution) and not fn.parameter_batch_shape
        rows = value.detach().reshape(-1, *fn.event_shape)
        if not plain or not len(rows):
            return kernel.start(self.number + self.witnesses)
        chosen = torch.randperm(max(len(rows), self.number + self.witnesses), device=rows.device) % len(rows)
        return _from_visible(fn, rows[chosen[: self.number + self.witnesses]])

    def _anchor(self, fn: EnergyDistribution, value: Tensor) -> dict[str, Tensor]:
        """Find log Z anew, exactly where that is cheap, else by a short annealing; zero where there is no path."""
        zero = torch.zeros((), device=value.device)
        if not isinstance(fn, BoltzmannDistribution):
            log_z = zero
        elif log_states(fn.machine, {}) < 9:
            log_z = fn.exact_log_partition().detach()
        else:
            rows = processes.gather(value.detach().reshape(-1, *fn.event_shape))
            chains = max(50, 2 * processes.world())
            log_z = log_partition(fn, "ais", chains=chains, temperatures=300, base=rows, reverse=False).value
        return {"log_z": log_z, "travelled": zero, "steps": zero}

    def get_extra_state(self) -> dict[str, Any]:
        fast = {site: weights.offsets for site, weights in self.fast_weights.items()}
        return {**super().get_extra_state(), "chains": self.chains, "tracked": self.tracked, "fast": fast}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.chains, self.tracked = state["chains"], state["tracked"]
        saved = state.get("fast", {})  # states of before there were fast weights have none
        self.fast_weights = {site: FastWeights(self.fast or 0.0, self.fast_decay, x) for site, x in saved.items()}


def _refuse_rowwise(site: str, fn: EnergyDistribution, value: Tensor) -> None:
    rows = value.shape[: value.dim() - len(fn.event_shape)]
    shared = zip(reversed(rows), reversed(fn.parameter_batch_shape), strict=False)
    if any(a == b and a > 1 for a, b in shared):
        raise ValueError(
            f"site {site!r} has a context that differs from row to row (batch shape {tuple(fn.parameter_batch_shape)}); "
            "persistent chains belong to no row. Use dgm.CD"
        )
