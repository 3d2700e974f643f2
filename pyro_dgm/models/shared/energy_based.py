"""The base of energy-based models: the Pyro program, and clamped chains that draw unknown entries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from ...energy import EnergyDistribution
from ...mcmc import ChainsKernel, VectorizedMCMC, default_kernel
from ...objectives.phases.objective import SWEEPS
from .chain_details import chain_figures, projections
from .conditioning import check_condition, check_imputation
from .model import ProbabilisticModel
from .rows import PROGRESS_ROWS

_PROGRAMS = "generate", "infer", "model", "guide", "data_plate"
"""What a model's programs are made of."""


class EnergyModel(ProbabilisticModel):
    """A model whose call returns an energy distribution over the visible layer."""

    takes_missing = True

    @abstractmethod
    def forward(self, *context: Any, **shifts: Any) -> EnergyDistribution:
        """The distribution over the visible layer, with a batch shape where the context has one."""

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        """``x ~ p`` in a data plate; ``size`` is the number of rows that a mini-batch stands for."""
        dist = self()  # outside the plate, so that parameters with a prior are drawn once and not once per row
        with self.data_plate(x, size):
            return pyro.sample("x", dist, obs=x)

    def infer(self, *args: Any, **kwargs: Any) -> Any:
        """The guide is empty: hidden units are summed out, so there are no latent sites."""

    def only_site(self) -> EnergyDistribution | None:
        """This model's distribution; None where a subclass, or this instance, has programs of its own."""
        for name in _PROGRAMS:
            if name in vars(self) or getattr(type(self), name) is not getattr(EnergyModel, name):
                return None
        return self()

    def observed(self, x: Tensor) -> dict[str, Tensor]:
        """The states of the layers that data rows observe; of booleans of entries, those of the layers."""
        return {"visible": x}

    def joined(self, state: Mapping[str, Tensor]) -> Tensor:
        """The data rows of the states of layers: the inverse of ``observed``."""
        return state["visible"]

    def row_shape(self, x: Tensor) -> torch.Size:
        """The shape that rows of data must have, where ``x`` are such rows."""
        return self().event_shape

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, from one clamped chain per row after ``draws`` sweeps of warm-up."""
        return self.impute_with_details(x, known, draws)[0]

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``impute``, and effective sample size and R-hat of the chains' energies."""
        dist = self()
        check_imputation(x, known, self.row_shape(x), draws)
        mcmc = self._clamped(dist, x.nan_to_num(), known, draws, draws, keep="moments")
        means = {layer: moments["mean"] for layer, moments in mcmc.moments.get().items()}
        filled = torch.where(known, x, self.joined(means).to(x))
        energies = torch.stack(list(mcmc.scalars.values()), -1).transpose(0, 1)
        return filled, self._details(mcmc, energies)

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draw by one clamped chain per row, with the default kernel of the distribution."""
        return self.condition_with_details(x, known, draws, warmup, thinning)[0]

    def condition_with_details(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``condition``, and effective sample size and R-hat of the chains' draws."""
        warmup, thinning = check_condition(x, known, draws, warmup, thinning)
        dist = self()
        mcmc = self._clamped(dist, x.nan_to_num(), known, draws, warmup, thinning=thinning)
        drawn = self.joined(mcmc.get_samples(group_by_chain=True)).transpose(0, 1)
        return drawn, self._details(mcmc, projections(drawn, known.expand(x.shape)))

    def _details(self, mcmc: VectorizedMCMC, figures: Tensor) -> dict[str, Any]:
        """The details of clamped chains, from figures of their draws, ``draws x rows x figures``."""
        found: dict[str, Any] = {"method": f"chains ({type(mcmc.kernel).__name__})", **chain_figures(figures)}
        rates = [float(d["acceptance rate"]) for d in mcmc.kernel.chain_diagnostics(1) if "acceptance rate" in d]
        return found | ({"acceptance": min(rates)} if rates else {})

    @torch.no_grad()
    def filled(self, x: Tensor, sweeps: int = SWEEPS) -> Tensor:
        """Rows with every missing value (NaN) drawn given the known ones, by one clamped chain per row.

        The chains start at the biases and take ``sweeps`` steps of the distribution's default kernel. Where these are too few,
        the draws are between the law without couplings and the law given the known values.

        Args:
            x: rows.
            sweeps: the length of the chains.

        Raises:
            ValueError: rows of another width.
        """
        if x.shape[1:] != (shape := self.row_shape(x)):
            raise ValueError(
                f"{type(self).__name__} got data of shape {tuple(x.shape)}; expected rows x {tuple(shape)}"
            )
        holes = x.isnan().flatten(1).any(1)
        if not bool(holes.any()):
            return x
        rows, dist = x[holes], self()
        kernel = self._clamped_kernel(dist, rows.nan_to_num(), ~rows.isnan())
        state = kernel.move(kernel.start(len(rows)), sweeps)
        whole = x.clone()
        whole[holes] = torch.where(rows.isnan(), self.joined(state).to(x), rows)
        return whole

    def first_rows(self, *splits: Tensor) -> tuple[Tensor, ...]:
        """The first rows of splits, for figures of progress, with missing values filled in by draws."""
        return tuple(self.filled(x[:PROGRESS_ROWS]) for x in splits)

    def chains(self, draws: int = 500, warmup: int = 500, chains: int = 20, engine: str = "auto") -> VectorizedMCMC:
        """Run chains without clamping, with the default kernel of the distribution."""
        dist = self()
        mcmc = VectorizedMCMC(default_kernel(dist)(dist), draws, warmup, num_chains=chains, engine=engine)
        mcmc.run()
        return mcmc

    def evidence_options(self, train: Tensor, method: str | None) -> dict[str, Any]:
        """The training rows as ``base``: annealing starts from their means."""
        return {"base": train} if method in (None, "ais", "bridge") else {}

    def _clamped_kernel(self, dist: EnergyDistribution, x: Tensor, known: Tensor) -> ChainsKernel:
        """The kernel of chains, one per row, with the known entries of the layers that rows observe clamped."""
        values, masks = self.observed(x), self.observed(known.expand(x.shape))
        clamp = {layer: (masks[layer], value) for layer, value in values.items()}
        return default_kernel(dist)(dist, clamp=clamp)

    def _clamped(
        self, dist: EnergyDistribution, x: Tensor, known: Tensor, draws: int, warmup: int, **options: Any
    ) -> VectorizedMCMC:
        """Run chains of the layers that rows observe, one per row, with the known entries clamped."""
        mcmc = VectorizedMCMC(
            self._clamped_kernel(dist, x, known), draws, warmup, num_chains=len(x), save_params=list(self.observed(x)),
            disable_progbar=True, **options,
        )  # fmt: skip
        mcmc.run()
        return mcmc
