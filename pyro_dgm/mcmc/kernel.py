"""Kernels that advance many chains at once, with the chains in the leading dimension."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from ..energy import BoltzmannDistribution, EnergyDistribution, State


class ChainsKernel(MCMCKernel):
    """A Pyro ``MCMCKernel`` over ``{layer: chains x batch_shape x layer shape}``.

    The kernel holds the distribution that it samples and no state of the chains. What a kernel learns while it runs (step
    sizes, temperatures) is in ``tuning``, so that it can be saved and given to another instance.

    Args:
        dist: the energy distribution that the chains converge to.
    """

    model = None

    def __init__(self, dist: EnergyDistribution) -> None:
        if not isinstance(dist, EnergyDistribution):
            hint = " (call the model: BlockGibbs(rbm()))" if callable(dist) else ""
            raise ValueError(f"{type(self).__name__} got {type(dist).__name__}; expected an energy distribution{hint}")
        self.dist = dist
        self.transforms: dict[str, object] = {}
        self.tuning: dict[str, Tensor] = {}
        self.num_chains = 1
        self._initial: State | None = None
        super().__init__()

    @property
    def initial_params(self) -> State:
        """The chains' first states: those set, else a draw from the kernel's start."""
        return self.start(self.num_chains) if self._initial is None else self._initial

    @initial_params.setter
    def initial_params(self, params: State) -> None:
        self._initial = params

    @abstractmethod
    def start(self, chains: int) -> State:
        """First states for a number of chains."""

    @abstractmethod
    def sample(self, params: State) -> State:
        """One step of every chain; no gradient is recorded."""

    def draws(self, params: State) -> State:
        """The part of the chains' state that is distributed as the target: ``params`` itself, unless a kernel keeps more."""
        return params

    def chain_diagnostics(self, chains: int) -> list[dict[str, Any]]:
        """``diagnostics`` once a chain, for a state of that many; with what is known of each alone."""
        return [self.diagnostics()] * chains

    @abstractmethod
    def energies(self, params: State) -> dict[str, Tensor]:
        """Scalars of a draw worth diagnosing, ``chains x batch_shape``: ``energy`` and ``free_energy``."""


def check_layers(kernel: ChainsKernel, dist: EnergyDistribution) -> None:
    """Refuse a distribution without layers to draw, in the name of the kernel that was to draw them."""
    if not isinstance(dist, BoltzmannDistribution):
        raise ValueError(
            f"{type(kernel).__name__} got {type(dist).__name__}, which has no hidden units to draw; use dgm.HMC"
        )
