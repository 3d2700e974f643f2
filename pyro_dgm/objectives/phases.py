"""Where the negative samples come from: the data (CD), persistent chains (PCD), or all states (exact)."""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..energy import BoltzmannDistribution, EnergyDistribution, State, log_partition, log_states, without_gradient
from ..mcmc import ChainsKernel, default_kernel
from .centring import Centring
from .fast_weights import FastWeights, average_to

MakeKernel = Callable[[EnergyDistribution], ChainsKernel]

ANCHOR_STEPS, ANCHOR_NATS = 200, 20.0
"""PCD finds log Z anew once the parameters have moved it so far since the last time, but not more often than that."""


class NegativePhase(nn.Module):
    """Estimates log Z of an energy-based site, in a way that can be trained through."""

    exact = False

    def get_extra_state(self) -> dict[str, Any]:
        return {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        return None

    def prepare(self, site: str, fn: EnergyDistribution) -> EnergyDistribution:
        """The site's distribution as the phase wants it (with centred gradients, say)."""
        return fn

    def sampler(self, site: str, fn: EnergyDistribution) -> Callable[[torch.Size], Tensor] | None:
        """Where a program under this phase draws the site from; None leaves it to the distribution."""
        return None

    def claim(self, owner: Any) -> None:
        """Note the model that the phase serves; a phase with chains refuses a second one."""

    def options(self) -> dict[str, Any]:
        """The phase's name and settings."""
        return {"phase": type(self).__name__}

    @abstractmethod
    def terms(self, site: str, fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
        """F(x), and a tensor whose gradient is (an estimate of) that of log Z: one a parameter batch, or one a row."""


class ExactNegativePhase(NegativePhase):
    r"""$\log Z$ by enumeration, with its exact gradient; for small machines.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> program = dgm.negative_phase(rbm.model, dgm.ExactNegativePhase())
    """

    exact = True

    def terms(self, site: str, fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
        return fn.free_energy(value), fn.exact_log_partition()


class KnownLogPartition(NegativePhase):
    """Log Z as a known number, to score data under a program with an energy-based site; refuses to train.

    Args:
        value: log Z in nats.
    """

    exact = True

    def __init__(self, value: Tensor | float) -> None:
        super().__init__()
        self.value = torch.as_tensor(value)

    def terms(self, site: str, fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
        log_z = without_gradient(self.value, fn.parameters(), f"log Z of the site {site!r} was given as a number")
        return fn.free_energy(value), log_z


class ChainsPhase(NegativePhase):
    """A negative phase by k steps of a kernel; subclasses say where the chains start."""

    def __init__(self, k: int = 1, centred: bool = False, kernel: MakeKernel | None = None) -> None:
        super().__init__()
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"k got {k!r}; expected the number of steps of the chains, an integer of at least 1")
        if kernel is not None and not callable(kernel):
            raise ValueError(f"kernel got {kernel!r}; expected a class or a function from a distribution to a kernel")
        self.k = k
        self.centred = centred
        self.kernel = kernel
        self.tuning: dict[str, dict[str, Tensor]] = {}
        self.centring: dict[str, Centring] = {}
        self._owner: weakref.ref[Any] | None = None

    def prepare(self, site: str, fn: EnergyDistribution) -> EnergyDistribution:
        if not self.centred:
            return fn
        if not isinstance(fn, BoltzmannDistribution):
            raise ValueError(
                f"site {site!r} is a {type(fn).__name__}, which has no layers to centre; pass centred=False"
            )
        if fn.parameter_batch_shape:
            raise ValueError(
                f"site {site!r} has parameters of batch shape {tuple(fn.parameter_batch_shape)}; a centred gradient "
                "needs one set of parameters. Pass centred=False"
            )
        if site not in self.centring:
            self.centring[site] = Centring()
        return self.centring[site].apply(fn)

    def terms(self, site: str, fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
        if self.centred and isinstance(fn, BoltzmannDistribution):
            self.centring[site].update(fn, value)
        with torch.no_grad():
            state = self.negatives(site, fn, value)
        visible = state[fn.visible]
        alike = value.shape[1:] == visible.shape[1:] == fn.event_shape and value.dtype == visible.dtype
        if fn.restricted and alike and not fn.parameter_batch_shape:
            # One product for data and negatives together.
            rows = fn.free_energy(torch.cat([value, visible]))
            return rows[: len(value)], self.surrogate(site, fn, -rows[len(value) :])
        return fn.free_energy(value), self.surrogate(site, fn, fn.collapsed(state))

    def chains_kernel(self, site: str, fn: EnergyDistribution) -> ChainsKernel:
        """The kernel for this site's distribution as it is now, with what earlier ones have learnt."""
        make = default_kernel(fn) if self.kernel is None else self.kernel
        kernel = make(fn.expand(fn.parameter_batch_shape))  # one set of chains, however many rows the plate has
        kernel.tuning = self.tuning.setdefault(site, kernel.tuning)
        return kernel

    def claim(self, owner: Any) -> None:
        before = None if self._owner is None else self._owner()
        if before is not None and before is not owner:
            raise ValueError(
                f"this {type(self).__name__} serves another model already, and its state must not be mixed with a second "
                "one's; make a phase for every model"
            )
        self._owner = weakref.ref(owner)

    def options(self) -> dict[str, Any]:
        kernel = {} if self.kernel is None else {"kernel": _named(self.kernel)}
        return {**super().options(), "k": self.k, "centred": self.centred, **kernel}

    @abstractmethod
    def negatives(self, site: str, fn: EnergyDistribution, value: Tensor) -> State:
        """Negative samples: every layer, ``rows x parameter batch x layer shape``."""

    @abstractmethod
    def surrogate(self, site: str, fn: EnergyDistribution, collapsed: Tensor) -> Tensor:
        """The surrogate of log Z, from the negatives' log-probabilities up to log Z."""

    def get_extra_state(self) -> dict[str, Any]:
        return {"centring": {site: centring.state for site, centring in self.centring.items()}, "tuning": self.tuning}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.centring = {site: Centring(saved) for site, saved in state["centring"].items()}
        self.tuning = state["tuning"]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # Chains move along with the module (.to, .double) though they are no buffers: they appear at the first step.
        self.set_extra_state(_map(fn, self.get_extra_state()))
        return super()._apply(fn, recurse)


class CD(ChainsPhase):
    r"""Contrastive divergence: negative samples are k sweeps away from the data (Hinton 2002).

    Every datum has its own chain, so a context that differs from row to row is welcome, and masks and scales of rows
    reach their negatives. The surrogate's value is minus the negatives' free energy, so that the loss reads
    $F(x) - F(x^-)$: it is no likelihood.

    Args:
        k: steps of the chains (Gibbs sweeps, for a Boltzmann distribution).
        centred: centre the gradient (20.36-37).
        kernel: what moves the chains, a function from the distribution to a kernel that keeps no more than a draw; by
            default ``dgm.BlockGibbs``, or ``dgm.HMC`` where there is only a free energy.

    Raises:
        ValueError: ``k`` is no positive integer.
    """

    def __init__(self, k: int = 1, *, centred: bool = False, kernel: MakeKernel | None = None) -> None:
        super().__init__(k, centred, kernel)

    def negatives(self, site: str, fn: EnergyDistribution, value: Tensor) -> State:
        kernel = self.chains_kernel(site, fn)
        state = _from_visible(fn, value.detach()) if isinstance(fn, BoltzmannDistribution) else {fn.visible: value}
        for _ in range(self.k):
            state = kernel.sample(state)
        return state

    def surrogate(self, site: str, fn: EnergyDistribution, collapsed: Tensor) -> Tensor:
        return collapsed


class PCD(ChainsPhase):
    r"""Stochastic maximum likelihood: chains that persist between gradient steps (Younes 1999; Tieleman 2008).

    The surrogate's value follows $\log Z$: annealed importance sampling finds it at the first step, and again whenever
    training has moved it far; in between every step adds $\log\operatorname{mean} e^{F_{old} - F_{new}}$ over a few
    further chains that take no part in the gradient (over the gradient's own chains that mean is biased downwards,
    since the step was made to raise their energy). It is an estimate that may drift, good enough for score-function
    rewards and a readable loss; figures come from ``dgm.log_likelihood``. A distribution that is no Boltzmann machine has
    no annealing path: its log Z is counted from zero at the first step.

    Args:
        k: steps of the chains (Gibbs sweeps, for a Boltzmann distribution) a gradient step.
        chains: persistent chains.
        centred: centre the gradient (20.36-37).
        kernel: what moves the chains, a function from the distribution to a kernel; by default ``dgm.BlockGibbs``, or
            ``dgm.HMC`` where there is only a free energy.
        fast: the learning rate of fast weights: the chains are moved by a machine with offsets that follow the gradient
            and decay, so that they leave modes in which they linger (Tieleman and Hinton 2009). The witnesses of log Z are
            moved without them.
        fast_decay: the share of the fast weights that is left after a step.

    Raises:
        ValueError: ``k`` or ``chains`` is no positive integer; ``fast`` is negative or ``fast_decay`` outside [0, 1); at the
            site, a context that differs from row to row (a chain belongs to no row; use ``CD``), or fast weights of a
            distribution that is no Boltzmann machine.
    """

    def __init__(
        self,
        k: int = 1,
        chains: int = 100,
        *,
        centred: bool = False,
        kernel: MakeKernel | None = None,
        fast: float | None = None,
        fast_decay: float = 0.95,
    ) -> None:
        super().__init__(k, centred, kernel)
        if fast is not None and not 0 <= fast < math.inf:
            raise ValueError(f"fast got {fast!r}; expected the fast weights' learning rate, at least 0, or None")
        if not 0 <= fast_decay < 1:
            raise ValueError(f"fast_decay got {fast_decay!r}; expected the share that a step leaves, in [0, 1)")
        if not isinstance(chains, int) or isinstance(chains, bool) or chains < 1:
            raise ValueError(f"chains got {chains!r}; expected the number of persistent chains, at least 1")
        self.number = chains
        self.witnesses = max(chains // 10, 8)
        self.chains: dict[str, State] = {}
        self.tracked: dict[str, dict[str, Tensor]] = {}
        self.fast, self.fast_decay = fast, fast_decay
        self.fast_weights: dict[str, FastWeights] = {}

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
        change = (collapsed - tracked["collapsed"]).logsumexp(0) - math.log(self.witnesses)
        tracked["log_z"] = tracked["log_z"] + change
        tracked["travelled"] = tracked["travelled"] + change.abs().max()
        tracked["steps"] = tracked["steps"] + 1
        if tracked["steps"] >= ANCHOR_STEPS and tracked["travelled"] > ANCHOR_NATS:
            if isinstance(fn, BoltzmannDistribution):
                tracked |= self._anchor(fn, value)

    def surrogate(self, site: str, fn: EnergyDistribution, collapsed: Tensor) -> Tensor:
        tracked = self.tracked[site]
        tracked["collapsed"] = collapsed[self.number :].detach()
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
        return {**super().options(), "chains": self.number, **fast}

    def _fits(self, site: str, fn: EnergyDistribution, kernel: ChainsKernel) -> bool:
        if site not in self.chains:
            return False
        lead = (self.number + self.witnesses, *fn.parameter_batch_shape)
        kept = {layer: x.shape for layer, x in kernel.draws(self.chains[site]).items()}
        return kept == {layer: lead + shape for layer, shape in fn.shapes.items()}

    def _start(self, site: str, fn: EnergyDistribution, kernel: ChainsKernel, value: Tensor) -> None:
        state = self.chains[site] = kernel.start(self.number + self.witnesses)
        self.fast_weights.pop(site, None)
        witnesses = {layer: x[self.number :] for layer, x in kernel.draws(state).items()}
        self.tracked[site] = {"collapsed": fn.collapsed(witnesses), **self._anchor(fn, value)}

    def _anchor(self, fn: EnergyDistribution, value: Tensor) -> dict[str, Tensor]:
        """Find log Z anew, exactly where that is cheap, else by a short annealing; zero where there is no path."""
        zero = torch.zeros((), device=value.device)
        if not isinstance(fn, BoltzmannDistribution):
            log_z = zero
        elif log_states(fn.machine, {}) < 9:
            log_z = fn.exact_log_partition().detach()
        else:
            rows = value.detach().reshape(-1, *fn.event_shape)
            log_z = log_partition(fn, "ais", chains=50, temperatures=300, base=rows, reverse=False).value
        return {"log_z": log_z, "travelled": zero, "steps": zero}

    def get_extra_state(self) -> dict[str, Any]:
        fast = {site: weights.offsets for site, weights in self.fast_weights.items()}
        return {**super().get_extra_state(), "chains": self.chains, "tracked": self.tracked, "fast": fast}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.chains, self.tracked = state["chains"], state["tracked"]
        saved = state.get("fast", {})  # states of before there were fast weights have none
        self.fast_weights = {site: FastWeights(self.fast or 0.0, self.fast_decay, x) for site, x in saved.items()}


def _from_visible(fn: BoltzmannDistribution, value: Tensor) -> State:
    """A state around visible rows: their batch broadcast with the parameters', hidden layers given them."""
    machine = fn.machine
    shape = torch.broadcast_shapes(value.shape[: value.dim() - len(fn.event_shape)], fn.parameter_batch_shape)
    visible = value.expand(*shape, *fn.event_shape).to(fn.parameters()[0].dtype)
    if fn.restricted:
        # The first sweep draws the hidden units from the visible rows alone.
        layers = machine.graph.layers.items()
        zeros = {layer: visible.new_zeros(()).expand(*shape, *unit.shape) for layer, unit in layers}
        return {**zeros, fn.visible: visible}
    state = {**machine.neutral_state(shape), fn.visible: visible}
    for _ in range(10 if len(machine.graph.layers) > 1 else 0):
        state = machine.sweep(state, skip=frozenset({fn.visible}))
    return state


def _named(kernel: MakeKernel) -> str:
    """A name for a run's options."""
    return getattr(kernel, "__name__", repr(kernel))


def _refuse_rowwise(site: str, fn: EnergyDistribution, value: Tensor) -> None:
    rows = value.shape[: value.dim() - len(fn.event_shape)]
    shared = zip(reversed(rows), reversed(fn.parameter_batch_shape), strict=False)
    if any(a == b and a > 1 for a, b in shared):
        raise ValueError(
            f"site {site!r} has a context that differs from row to row (batch shape {tuple(fn.parameter_batch_shape)}); "
            "persistent chains belong to no row. Use dgm.CD"
        )


def _map(fn: Callable[[Tensor], Tensor], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _map(fn, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(_map(fn, value) for value in tree)
    return fn(tree) if isinstance(tree, Tensor) else tree
