"""Negative samples by persistent chains (PCD)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import processes
from ...checks import check_count, check_positive, check_share
from ...energy import EnergyDistribution, State
from ...energy.mean_field import mean_field
from ...mcmc import EnergyKernel
from .chains import ChainsPhase, MakeKernel
from .fast_weights import FastWeights, average_to
from .positive import Positive
from .tracking import Tracking


class PCD(ChainsPhase):
    r"""Stochastic maximum likelihood: chains that persist between gradient steps (Younes 1999; Tieleman 2008).

    The surrogate's value follows $\log Z$. Where few states have to be listed it is exact. Elsewhere annealed importance
    sampling finds it at the first step, and again whenever training has moved it far; in between, small steps add
    $\log\operatorname{mean} e^{F_{old} - F_{new}}$ over a few further chains, the witnesses, which take no part in the
    gradient. (Over the gradient's own chains that mean is biased downwards, since the step was made to raise their energy.)
    After large steps $\log Z = E[-F] + H$ over all chains, with the entropy H as the last anchor or small step left it.
    The estimate is off by nats, by tens where training is fast: the loss then shows whether training works and is no likelihood,
    and figures come from ``dgm.log_likelihood``. A distribution that is no Boltzmann machine has no annealing path: its log Z is
    counted from zero at the first step.

    Args:
        k: steps of the chains (Gibbs sweeps, for a Boltzmann distribution) per gradient step; a pair as in ``dgm.CD``.
        chains: persistent chains, shared by the processes where there are several.
        centred: centre the gradient (20.36-37).
        kernel: moves the chains: a function from the distribution to a kernel; by default ``dgm.BlockGibbs``, or
            ``dgm.HMC`` where there is only a free energy.
        mean_field: rounds of mean field from the chains' states; the means then replace the states in the gradient (20.4.4,
            for deep machines). 0 sums the first colour out of the sampled states instead.
        fast: the learning rate of fast weights: a machine with offsets that follow the gradient and decay moves the chains,
            so that they leave modes in which they linger (Tieleman and Hinton 2009). The witnesses are moved without them.
        fast_decay: the share of the fast weights that is left after a step.
        positive: how hidden units are dealt with given the data (20.1): ``"exact"`` sums them out; ``"chains"`` draws them by
            sweeps with the data clamped; ``"mean-field"`` takes the variational bound. By default exact where few of
            their states are to be listed, else chains; the loss then has the bound's value.
        follow: whether the surrogate's value follows log Z. Without it the loss is the mean of F over the data less that over
            the chains, as of ``dgm.CD``: near 0, and no sign of how training goes; there are no witnesses and no anchors, a tenth
            to a fifth of a step. The gradient has the same law.

    Raises:
        ValueError: ``k`` is no positive integer or pair of them, or ``chains`` no positive integer; ``mean_field`` or
            ``fast`` is negative or ``fast_decay`` outside [0, 1); at the site, a context that differs from row to row (a
            chain belongs to no row; use ``CD``), fast weights or mean field of a distribution that is no Boltzmann machine, or
            a trace (``JitTrace_ELBO``), in which the chains would stand still.
    """

    persists = True

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
        positive: Positive | None = None,
        follow: bool = True,
    ) -> None:
        super().__init__(k, centred, kernel, positive)
        self.mean_field = check_count("mean_field", mean_field, 0, "a number of rounds")
        if fast is not None:
            check_positive("fast", fast, "the fast weights' learning rate", zero=True)
        check_share("fast_decay", fast_decay, "the share that a step leaves", zero=True)
        self.total = check_count("chains", chains, what="the number of persistent chains")
        self.chains: dict[str, State] = {}
        self.tracking: dict[str, Tracking] = {}
        self._watched: dict[str, State] = {}
        self.fast, self.fast_decay = fast, fast_decay
        self.follow = self.estimates = bool(follow)
        self.fast_weights: dict[str, FastWeights] = {}

    @property
    def number(self) -> int:
        """The number of this process's chains."""
        return processes.share(self.total, "chains")

    @property
    def witnesses(self) -> int:
        """The number of this process's further chains, by which log Z is followed."""
        return max(self.number // 10, 8) if self.follow else 0

    def claim(self, owner: Any) -> None:
        processes.share(self.total, "chains")  # refuses too few
        super().claim(owner)

    def negatives(self, site: str, fn: EnergyDistribution, value: Tensor) -> State:
        _refuse_rowwise(site, fn, value)
        kernel = self.chains_kernel(site, fn)
        if not self._fits(site, fn, kernel):
            self._start(site, fn, kernel, value)
        state = self.chains[site]
        if self.follow:
            self._watched[site] = {layer: x[self.number :] for layer, x in kernel.draws(state).items()}
        state = kernel.move(state, self.k) if self.fast is None else self._fast_step(site, fn, kernel, value)
        self.chains[site] = state
        return kernel.draws(state)

    def watched(self, site: str) -> State | None:
        return self._watched.pop(site, None)

    def see(self, site: str, fn: EnergyDistribution, value: Tensor, collapsed: Tensor) -> None:
        self.tracking[site].follow(fn, value, collapsed)

    def _fast_step(self, site: str, fn: EnergyDistribution, kernel: EnergyKernel, value: Tensor) -> State:
        """Move the chains with the fast weights and the witnesses without them, and let the fast weights learn."""
        if not fn.layered:
            raise ValueError(f"site {site!r} is a {type(fn).__name__}, which has no fast weights; pass fast=None")
        slices = slice(None, self.number), slice(self.number, None)
        chains, witnesses = ({layer: x[rows] for layer, x in self.chains[site].items()} for rows in slices)
        weights = self.fast_weights.setdefault(site, FastWeights(self.fast or 0.0, self.fast_decay))
        moving = self.chains_kernel(site, weights.apply(site, fn))
        for _ in range(self.k):
            chains, witnesses = moving.sample(chains), kernel.sample(witnesses) if self.follow else {}
        weights.update(fn, value, moving.draws(chains), self.positive)
        return {layer: torch.cat([x, witnesses[layer]]) for layer, x in chains.items()} if self.follow else chains

    def surrogate(self, site: str, fn: EnergyDistribution, collapsed: Tensor) -> Tensor:
        if not self.follow:
            return average_to(collapsed, fn.parameter_batch_shape)
        drawn = collapsed.detach()
        if self.mean_field:
            with torch.no_grad():
                drawn = fn.collapsed(self.chains_kernel(site, fn).draws(self.chains[site]))
        self.tracking[site].leave(drawn[self.number :], drawn.mean(0))
        surrogate = average_to(collapsed[: self.number], fn.parameter_batch_shape)
        return surrogate - surrogate.detach() + self.tracking[site].log_z

    def sampler(self, site: str, fn: EnergyDistribution) -> Callable[[torch.Size], Tensor] | None:
        if site not in self.chains or fn.parameter_batch_shape or fn.known:
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
        follow = {} if self.follow else {"follow": False}
        return {**super().options(), "chains": self.total, **means, **fast, **follow}

    @property
    def sums_out(self) -> bool:
        return not self.mean_field

    def collapsed(self, fn: EnergyDistribution, state: State) -> Tensor:
        if not self.mean_field:
            return super().collapsed(fn, state)
        if not fn.layered:
            raise ValueError(f"mean_field got a {type(fn).__name__}, which has no layers; pass mean_field=0")
        with torch.no_grad():
            machine = fn.machine
            if fn.shapes.keys() - state.keys():  # chains of the visible layer alone
                state = fn.unconditional().around(state[fn.visible])
            means = mean_field(machine, {}, self.mean_field, start=machine.statistics(state)).statistics
        return machine.value(means)

    def _fits(self, site: str, fn: EnergyDistribution, kernel: EnergyKernel) -> bool:
        if site not in self.chains:
            return False
        leading_shape = (self.number + self.witnesses, *fn.parameter_batch_shape)
        shapes = {layer: x.shape for layer, x in kernel.draws(self.chains[site]).items()}
        # Chains may hold fewer layers than there are: those that move visible units alone.
        known = fn.visible in shapes and shapes.keys() <= fn.shapes.keys()
        return known and all(shape == leading_shape + fn.shapes[layer] for layer, shape in shapes.items())

    def _start(self, site: str, fn: EnergyDistribution, kernel: EnergyKernel, value: Tensor) -> None:
        state, tracking = self._first(fn, kernel, value), Tracking()
        if self.follow:  # which takes its time, and may be interrupted
            witnesses = {layer: x[self.number :] for layer, x in kernel.draws(state).items()}
            tracking.begin(fn, value, fn.collapsed(witnesses))
            self.tracking[site] = tracking
        self.chains[site] = state
        self.fast_weights.pop(site, None)

    def _first(self, fn: EnergyDistribution, kernel: EnergyKernel, value: Tensor) -> State:
        """The first states of the chains: data rows, which a trained machine's chains would be near, or the kernel's start."""
        number, rows = self.number + self.witnesses, value.detach().reshape(-1, *fn.event_shape)
        if self.kernel is not None or not fn.layered or fn.parameter_batch_shape or not len(rows):
            return kernel.start(number)
        chosen = torch.randperm(max(len(rows), number), device=rows.device) % len(rows)
        return kernel.around(rows[chosen[:number]])

    def get_extra_state(self) -> dict[str, Any]:
        fast = {site: weights.offsets for site, weights in self.fast_weights.items()}
        tracked = {site: tracking.state for site, tracking in self.tracking.items()}
        return {**super().get_extra_state(), "chains": self.chains, "tracked": tracked, "fast": fast}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.chains = state["chains"]
        self.tracking = {site: Tracking(saved) for site, saved in state["tracked"].items()}
        fast = state.get("fast", {})  # absent from states saved before there were fast weights
        self.fast_weights = {site: FastWeights(self.fast or 0.0, self.fast_decay, x) for site, x in fast.items()}


def _refuse_rowwise(site: str, fn: EnergyDistribution, value: Tensor) -> None:
    rows = value.shape[: value.dim() - len(fn.event_shape)]
    shared = zip(reversed(rows), reversed(fn.parameter_batch_shape), strict=False)
    if any(a == b and a > 1 for a, b in shared):
        raise ValueError(
            f"site {site!r} has a context that differs from row to row (batch shape {tuple(fn.parameter_batch_shape)}); "
            "persistent chains belong to no row. Use dgm.CD"
        )
