"""The base of energy-based models: the Pyro program, and unknown entries drawn by clamped chains."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import pyro
import torch
from torch import Tensor

from ...energy import EnergyDistribution
from ...mcmc import VectorizedMCMC, default_kernel
from .conditioning import check_condition, check_imputation
from .model import ProbabilisticModel


class EnergyModel(ProbabilisticModel):
    """A model whose call returns an energy distribution over the visible layer."""

    @abstractmethod
    def forward(self, *context: Any, **shifts: Any) -> EnergyDistribution:
        """The distribution over the visible layer, with a batch shape where the context has one."""

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        """``x ~ p`` in a data plate; ``size`` is the number of rows that a mini-batch stands for."""
        dist = self()  # outside the plate: parameters with a prior are drawn once, not once a row
        with self.data_plate(x, size):
            return pyro.sample("x", dist, obs=x)

    def infer(self, *args: Any, **kwargs: Any) -> Any:
        """There are no latent sites: hidden units are summed out."""

    def observed(self, x: Tensor) -> dict[str, Tensor]:
        """Data rows as states of the layers they observe."""
        return {"visible": x}

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, from one clamped chain a row after as many sweeps of warm-up."""
        dist = self()
        check_imputation(x, known, dist.event_shape, draws)
        mcmc = self._clamped(dist, x, known, draws, draws, keep="moments")
        return torch.where(known, x, mcmc.moments.get()[dist.visible]["mean"].to(x))

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draws by one clamped chain a row, by the kernel that fits the distribution."""
        warmup, thinning = check_condition(x, known, draws, warmup, thinning)
        dist = self()
        mcmc = self._clamped(dist, x.nan_to_num(), known, draws, warmup, thinning=thinning)
        return mcmc.get_samples(group_by_chain=True)[dist.visible].transpose(0, 1)

    def chains(self, draws: int = 500, warmup: int = 500, chains: int = 20, engine: str = "torch") -> VectorizedMCMC:
        """Free chains that have run, by the kernel that fits the distribution."""
        dist = self()
        mcmc = VectorizedMCMC(default_kernel(dist)(dist), draws, warmup, num_chains=chains, engine=engine)
        mcmc.run()
        return mcmc

    def evidence_options(self, train: Tensor, method: str | None) -> dict[str, Any]:
        """Annealing starts from the training rows' means."""
        return {"base": train} if method in (None, "ais", "bridge") else {}

    def _clamped(
        self, dist: EnergyDistribution, x: Tensor, known: Tensor, draws: int, warmup: int, **options: Any
    ) -> VectorizedMCMC:
        """Chains of the visible layer, one a row, that have run with what is known held."""
        mcmc = VectorizedMCMC(
            default_kernel(dist)(dist, clamp=(known, x)), draws, warmup, num_chains=len(x), save_params=[dist.visible],
            disable_progbar=True, **options,
        )  # fmt: skip
        mcmc.run()
        return mcmc
