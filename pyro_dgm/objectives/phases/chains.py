"""The base of negative phases by chains."""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...energy import EnergyDistribution, NotFinite, State
from ...mcmc import EnergyKernel, default_kernel
from .centring import Centring
from .phase import NegativePhase
from .positive import Positive, check_positive_phase, data_free_energy

MakeKernel = Callable[[EnergyDistribution], EnergyKernel]


class ChainsPhase(NegativePhase):
    """A negative phase by k steps of a kernel; subclasses say where the chains start."""

    persists = False
    """Whether the chains go on from step to step."""

    def __init__(
        self,
        k: int | tuple[int, int] = 1,
        centred: bool = False,
        kernel: MakeKernel | None = None,
        positive: Positive | None = None,
    ) -> None:
        super().__init__()
        self.positive = check_positive_phase(positive)
        ends = tuple(k) if isinstance(k, tuple | list) else (k, k)
        if len(ends) != 2 or not all(type(end) is int and end >= 1 for end in ends):
            raise ValueError(
                f"k got {k!r}; expected the number of steps of the chains, an integer of at least 1, or a pair of them "
                "between which fit moves it"
            )
        if kernel is not None and not callable(kernel):
            raise ValueError(f"kernel got {kernel!r}; expected a class or a function from a distribution to a kernel")
        self.ends = ends
        self.k: int = ends[0]
        self.centred = centred
        self.kernel = kernel
        self.tuning: dict[str, dict[str, Tensor]] = {}
        self.centring: dict[str, Centring] = {}
        self._owner: weakref.ref[Any] | None = None

    def prepare(self, site: str, fn: EnergyDistribution) -> EnergyDistribution:
        if not self.centred:
            return fn
        if not fn.layered:
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
        try:
            return self.centring[site].apply(fn)
        except ValueError as error:
            raise ValueError(f"site {site!r}: {error}. Pass centred=False") from None

    def terms(self, site: str, fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
        if torch.jit.is_tracing() and (self.persists or self.centred):
            what = "persistent chains" if self.persists else "the offsets of centred gradients"
            raise ValueError(
                f"{what} change between steps outside of what a trace records: under a Jit estimator they would stand still. "
                "Use dgm.CD(), dgm.ExactNegativePhase() or an estimator without Jit, such as Trace_ELBO"
            )
        if self.centred:
            self.centring[site].update(fn, value)
        with torch.no_grad():
            state = self.negatives(site, fn, value)
        visible, watched = state[fn.visible], self.watched(site)
        stackable = value.shape[1:] == visible.shape[1:] == fn.event_shape and value.dtype == visible.dtype
        exact = fn.restricted and self.positive in (None, "exact")
        if exact and stackable and not fn.parameter_batch_shape and self.sums_out:
            # One product for all of them; without layers a free energy may have an infinite derivative where it is infinite.
            rows = [value, visible, *([watched[fn.visible]] if watched and fn.layered else [])]
            free_energy, *others = fn.free_energy(torch.cat(rows)).split([len(part) for part in rows])
            collapsed, *seen = (-other for other in others)
        else:
            free_energy, collapsed, seen = data_free_energy(fn, value, self.positive), self.collapsed(fn, state), []
        _check_reached(site, collapsed)
        if watched:
            with torch.no_grad():
                self.see(site, fn, value, seen[0].detach() if seen else fn.collapsed(watched))
        return free_energy, self.surrogate(site, fn, collapsed)

    def watched(self, site: str) -> State | None:
        """States of the chains before their last step whose log-probabilities under the present parameters are asked for."""
        return None

    def see(self, site: str, fn: EnergyDistribution, value: Tensor, collapsed: Tensor) -> None:
        """Take note of the log-probabilities of the states that were ``watched``, up to log Z."""

    @property
    def sums_out(self) -> bool:
        """Whether a negative enters the surrogate by its free energy."""
        return True

    def collapsed(self, fn: EnergyDistribution, state: State) -> Tensor:
        """The negatives' log-probabilities up to log Z."""
        return fn.collapsed(state)

    def chains_kernel(self, site: str, fn: EnergyDistribution) -> EnergyKernel:
        """The kernel for the present distribution of a site, with the tuning that earlier kernels have learnt."""
        make = default_kernel(fn) if self.kernel is None else self.kernel
        # One set of chains, however many rows the plate has; and of all layers, since log Z is that of their joint law.
        kernel = make(fn.unconditional().expand(fn.parameter_batch_shape))
        kernel.trusted = True
        kernel.tuning = self.tuning.setdefault(site, kernel.tuning)
        return kernel

    def ill_with(self, optimiser: str) -> str | None:
        if not self.centred or optimiser == "sgd":
            return None
        return (
            "a centred gradient is a change of coordinates, which optimisers that rescale every coordinate undo; "
            "take optimiser='sgd' (--optimiser sgd), with a larger step size, or leave centred out"
        )

    def claim(self, owner: Any) -> None:
        served = None if self._owner is None else self._owner()
        if served is not None and served is not owner:
            raise ValueError(
                f"this {type(self).__name__} serves another model already, and one state cannot serve two models; "
                "make a phase for every model"
            )
        self._owner = weakref.ref(owner)

    def options(self) -> dict[str, Any]:
        kernel = {} if self.kernel is None else {"kernel": _named(self.kernel)}
        k = self.k if self.ends[0] == self.ends[1] else list(self.ends)
        positive = {} if self.positive is None else {"positive": self.positive}
        return {**super().options(), "k": k, "centred": self.centred, **kernel, **positive}

    def schedule(self, share: float) -> None:
        first, last = self.ends
        if first != last:
            self.k = first + round(share * (last - first))

    def scheduled(self) -> bool:
        return self.ends[0] != self.ends[1]

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
        # Chains move along with the module (.to, .double), though they are no buffers, since the first step makes them.
        self.set_extra_state(_map(fn, self.get_extra_state()))
        return super()._apply(fn, recurse)


def _check_reached(site: str, collapsed: Tensor) -> None:
    """Refuse chains of an energy that is NaN or infinite: the step would make the weights so, or nothing of them any more.

    Raises:
        NotFinite: some chain has such an energy.
    """
    collapsed = collapsed.detach()
    if math.isfinite(collapsed.sum().item()):  # which is quicker, and finite only if all are
        return
    bad = ~collapsed.isfinite()
    if bool(bad.any()):
        raise NotFinite(
            f"site {site!r}: {int(bad.sum())} of {bad.numel()} chains have reached an energy of {-float(collapsed[bad][0]):g}; "
            "expected finite ones. Go back to weights from before and train with a smaller learning rate; persistent chains do "
            "not come back by themselves, and start anew with a new dgm.PCD()"
        )


def _named(kernel: MakeKernel) -> str:
    """The name of a kernel in a run's options."""
    return getattr(kernel, "__name__", repr(kernel))


def _map(fn: Callable[[Tensor], Tensor], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _map(fn, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(_map(fn, value) for value in tree)
    return fn(tree) if isinstance(tree, Tensor) else tree
