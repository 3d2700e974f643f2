"""The base of models with a free energy over real vectors and no graph."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pyro.distributions import MultivariateNormal, Normal
from torch import Tensor
from torch.distributions import Distribution

from ...annealing import hamiltonian_ais
from ...checks import check_belongs, check_choice, check_count
from ...columns import location_and_variance
from ...energy import EnergyDistribution, LogPartition, NoNormaliser
from ...energy.free import FreeEnergyDistribution
from ...mcmc import HMC, VectorizedMCMC
from ...objectives import CD, PCD
from ...objectives.objective import Objective
from ...objectives.phases.objective import SWEEPS, NegativePhaseObjective
from ...signatures import Option
from .abilities import check_options, keywords
from .energy_based import EnergyModel
from .evidence import Evidence, between
from .rows import ROWS_AT_ONCE, check_rows, filled_by_others, not_finite


class FreeEnergyModel(EnergyModel):
    """A model with a free energy F over real vectors and no graph; a subclass defines F, and HMC draws from it.

    Data are standardised rows: the model expects columns of about unit variance.
    """

    @abstractmethod
    def forward(self) -> FreeEnergyDistribution:
        """The distribution over visible rows."""

    def normaliser_problem(self) -> str | None:
        """The reason why the parameters have no normaliser; None where they have one. By default: not all are finite."""
        return not_finite(self)

    def annealing_base(self, mean: Tensor, variance: Tensor) -> Distribution:
        """A distribution of about that mean and variance: normal, or with power-law tails if the model has such tails."""
        return Normal(mean, variance.sqrt()).to_event(1)

    def distribution(
        self,
        free_energy: Callable[[Tensor], Tensor],
        parameters: Mapping[str, Tensor],
        energy: Callable[[Mapping[str, Tensor]], Tensor],
        visible: int,
    ) -> FreeEnergyDistribution:
        """The distribution with a free energy, sampled by HMC."""
        return FreeEnergyDistribution(free_energy, parameters, (visible,), energy, self._draw)

    def _draw(self, dist: FreeEnergyDistribution, shape: torch.Size, sweeps: int) -> Tensor:
        sweeps = check_count("sweeps", sweeps, 2, why=", of which the first half finds the step size")
        self._refuse()
        mcmc = VectorizedMCMC(
            HMC(dist.expand(()), num_steps=10),
            1,
            sweeps // 2,
            shape.numel(),
            sweeps - sweeps // 2,
            disable_progbar=True,
        )
        mcmc.run()
        return mcmc.last_params[dist.visible].view(*shape, *dist.event_shape)

    def _refuse(self) -> None:
        reason = self.normaliser_problem()
        if reason is not None:
            raise NoNormaliser(f"{type(self).__name__} has no normaliser: {reason}")

    def sample(self, n: int, sweeps: int = 100) -> Tensor:
        """Draw ``n`` visible rows, the last states of ``n`` HMC chains of ``sweeps`` proposals.

        Raises:
            ValueError: the parameters have no normaliser.
        """
        return self().sample((n,), sweeps=sweeps)

    def objective(
        self,
        kind: Literal["pcd", "cd"] = "pcd",
        k: int | tuple[int, int] = 1,
        chains: int | None = None,
        step_size: float = 0.1,
        num_steps: int = 20,
        target_acceptance: float | None = 0.65,
        missing_sweeps: int = SWEEPS,
    ) -> Objective:
        """The likelihood's gradient with a negative phase of HMC chains: ``"pcd"``, or ``"cd"``.

        Args:
            kind: ``"pcd"`` (chains persist) or ``"cd"`` (they start at the data).
            k: HMC proposals per gradient step.
            chains: the number of persistent chains, 100 by default; ``"cd"`` has one per row.
            step_size: the first leapfrog step; it is adapted towards ``target_acceptance``.
            num_steps: leapfrog steps per proposal.
            target_acceptance: the acceptance rate that the step size is adapted to; None keeps the step size.
            missing_sweeps: HMC proposals of the chains that fill in missing values (NaN) at every visit of a row
                (``dgm.NegativePhaseObjective``).

        Raises:
            ValueError: an unknown kind, or persistent chains for another kind than ``"pcd"``.
        """
        kernel = functools.partial(HMC, step_size=step_size, num_steps=num_steps, target_acceptance=target_acceptance)
        check_choice("kind", kind, ("pcd", "cd"))
        if kind == "pcd":
            phase = PCD(k, 100 if chains is None else chains, kernel=kernel)
            return NegativePhaseObjective(phase, missing_sweeps=missing_sweeps)
        check_belongs("kind", kind, ["pcd"], chains=chains)
        return NegativePhaseObjective(CD(k, kernel=kernel), missing_sweeps=missing_sweeps)

    def check_data(self, x: Tensor) -> None:
        check_rows(x, self().event_shape, type(self).__name__, missing=True)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        r"""Minus the score-matching loss on both splits, higher for a better fit, and the gap in F in nats.

        The loss is $E[\tfrac12 |\partial F|^2 - \mathrm{tr}\,\partial^2 F]$ (18.25), with the trace estimated by one
        random projection per row. It does not need log Z.
        """
        dist = self()
        train, valid = self.first_rows(train, valid)
        with torch.no_grad():
            gap = dist.free_energy(valid).mean() - dist.free_energy(train).mean()
        return {
            "score_fit": -_score_loss(dist, train),
            "valid_score_fit": -_score_loss(dist, valid),
            "free_energy_gap": float(gap),
        }

    def log_partition(self, rows: Tensor, **options: Any) -> LogPartition:
        """Log Z in nats, between forward and reverse annealing by HMC from a base with the mean and variance of ``rows``.

        Args:
            rows: data, ``n x visible``; half of the reverse run's chains start there.
            options: those of ``pyro_dgm.annealing.hamiltonian_ais``: ``chains``, ``temperatures``, ``num_steps``,
                ``reverse``, ``warmup``.

        Raises:
            ValueError: the parameters have no normaliser, or an option is out of range.
        """
        self._refuse()
        dist = self()
        check_rows(rows, dist.event_shape, "base", missing=True)
        rows = filled_by_others(rows).to(dist.parameters()[0])
        with torch.no_grad():
            location, variance = location_and_variance(rows)
            return hamiltonian_ais(dist, self.annealing_base(location, variance.clamp_min(0.1)), rows=rows, **options)

    def evidence(self, x: Tensor, method: str | None = None, base: Tensor | None = None, **options: Any) -> Evidence:
        r"""$-F(x) - \log Z$ for every row, with log Z between forward and reverse annealing by HMC.

        Args:
            x: rows.
            method: ``"ais"``, the only one.
            base: rows whose mean and variance the annealing starts from; by default ``x``.
            options: those of ``log_partition``; with ``reverse=False`` nothing bounds the figure from below.
        """
        if method not in (None, "ais"):
            raise ValueError(f"method got {method!r}; {type(self).__name__} has only a free energy, expected 'ais'")
        check_options(self, options, self.evidence_arguments(method))
        if bool(x.isnan().any()):
            raise ValueError(
                f"{type(self).__name__} has only a free energy of complete rows, and no sum over missing values: it is trained "
                "on rows with NaN, and evaluated on complete ones"
            )
        log_z = self.log_partition(x if base is None else base, **options)
        with torch.no_grad():
            dist = self()
            values = torch.cat([-dist.free_energy(rows) for rows in x.split(ROWS_AT_ONCE)]) - log_z.value
        return between(values, log_z)

    def evidence_arguments(self, method: str | None = None) -> dict[str, Option]:
        annealing = keywords(hamiltonian_ais)
        return super().evidence_arguments(method) | {name: annealing[name] for name in annealing if name != "rows"}


def _score_loss(dist: EnergyDistribution, x: Tensor) -> float:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(dist.free_energy(x).sum(), x, create_graph=True)
        direction = torch.randint_like(x, 2).mul(2).sub(1)
        (curvature,) = torch.autograd.grad((gradient * direction).sum(), x)
    return float((0.5 * gradient.detach() ** 2 - curvature * direction).sum(-1).mean())


def gaussian_given(pull: Tensor, precisions: Tensor, factor: Tensor) -> MultivariateNormal:
    r"""$\mathcal N(C\,\text{pull}, C)$ with $C = (\sum_j h_j r_j r_j^\top + I)^{-1}$ (20.47).

    Args:
        pull: ``batch_shape x visible``.
        precisions: $h$, ``batch_shape x covariance``.
        factor: $r$, ``visible x covariance``.
    """
    precision = (factor * precisions.unsqueeze(-2)) @ factor.mT
    precision = precision + torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    mean = torch.linalg.solve(precision, pull.unsqueeze(-1)).squeeze(-1)
    return MultivariateNormal(mean, precision_matrix=precision)
