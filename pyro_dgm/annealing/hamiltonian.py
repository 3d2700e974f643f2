"""Annealed importance sampling by Hamiltonian Monte Carlo, for distributions that have a free energy alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from .. import processes, progress
from ..checks import check_count, check_rows
from ..energy import EnergyDistribution, LogPartition
from ..energy.free import FreeEnergyDistribution
from ..energy.temperatures import temperatures as ladder
from ..mcmc.hamiltonian import HMC
from ..native import out_of_autocast
from .weights import DEPENDS, end_by_start, log_mean_exp

PILOTS = 20
"""The number of chains that find the step sizes; the weights come from others, so that they stay unbiased."""

PILOT_WARM_UP = 20
"""Steps of the pilots at the base before the first temperature."""


class _Path:
    r"""The path $F_\beta = (1-\beta) F_0 + \beta F$, with one kernel for all temperatures."""

    def __init__(self, dist: EnergyDistribution, base: Distribution, num_steps: int) -> None:
        self.dist, self.base, self.beta = dist, base, 0.0
        self.mixed = FreeEnergyDistribution(self.free_energy, dist.parameters(), dist.event_shape)
        self.pilot = HMC(self.mixed, 0.2, num_steps, target_acceptance=0.8)
        self.main = HMC(self.mixed, 0.2, num_steps, target_acceptance=None)
        self.pilot.trusted = self.main.trusted = True

    def free_energy(self, x: Tensor) -> Tensor:
        return torch.lerp(-self.base.log_prob(x), self.dist.free_energy(x), self.beta)

    def difference(self, x: Tensor) -> Tensor:
        """F - F_0, the rate of the log weight."""
        return self.dist.free_energy(x) + self.base.log_prob(x)

    def step_sizes(self, betas: list[float]) -> list[Tensor]:
        """The log step size at every temperature, from a separate run."""
        x = self.base.sample((PILOTS,))
        self.pilot.setup(0)
        for _ in range(PILOT_WARM_UP):
            x = self.pilot.sample({"visible": x})["visible"]
        self.pilot._warm_up = None
        log_step_sizes = []
        for beta in betas:
            self.beta = beta
            x = self.pilot.sample({"visible": x})["visible"]
            log_step_sizes.append(self.pilot.log_step_size())
        return log_step_sizes

    def move(self, x: Tensor, beta: float, log_step_size: Tensor) -> Tensor:
        self.beta = beta
        self.main.tuning["log_step_size"] = log_step_size
        return self.main.sample({"visible": x})["visible"]


@out_of_autocast
def hamiltonian_ais(
    dist: EnergyDistribution,
    base: Distribution,
    *,
    chains: int = 100,
    temperatures: int = 300,
    num_steps: int = 5,
    reverse: bool = True,
    warmup: int | None = None,
    rows: Tensor | None = None,
) -> LogPartition:
    r"""Log Z by annealing along $F_\beta = (1-\beta) F_0 + \beta F$ with one HMC step per temperature (Neal 2001; 18.7.1).

    $E[e^{\log w}] = Z$ exactly, since the step sizes come from chains that take no part in the weights. If
    $e^{-F}$ falls off as a power of x, the base must do so as well, or the weights have no finite variance.

    Args:
        dist: a distribution over real vectors, with parameters of no batch shape.
        base: a normalised distribution over the same vectors, $F_0 = -\log p_0$.
        chains: annealing runs in each direction.
        temperatures: steps between the base and the model.
        num_steps: leapfrog steps per temperature.
        reverse: also anneal from the model back to the base. The upper end is above log Z in expectation only as far as the
            ``warmup`` steps bring the chains to the model's distribution.
        warmup: HMC steps before the reverse run starts, 200 by default.
        rows: the first states of half of the reverse run's chains (data serve well); the others start at standard
            normal entries, since rows may all be of one mode. If the two halves disagree, the upper end is the larger one, and
            ``method`` says so. By default all start at draws of the base.

    Returns:
        Values in nats; without ``reverse`` the upper end is infinite.

    Raises:
        ValueError: a count out of range, or a warm-up without a reverse run.
    """
    if warmup is not None and not reverse:
        raise ValueError(f"warmup got {warmup!r} without a reverse run, and only that one has a warm-up: leave it out")
    chains = check_count("chains", chains, 2, why=", without which annealing cannot tell its error")
    if rows is not None:
        check_rows(rows, dist.event_shape, "rows")
    levels = ladder(temperatures).tolist()
    dist = dist.unconditional()
    path = _Path(dist, base, num_steps)
    mine = processes.share(chains, "chains")
    with torch.no_grad(), processes.own_stream():
        log_steps = path.step_sizes(levels)
        x = base.sample((mine,))
        forward = torch.zeros_like(path.difference(x))
        rises = zip(levels[:-1], levels[1:], log_steps[1:], strict=True)
        for before, beta, log_step in progress.steps(rises, "temperatures", len(levels) - 1):
            forward = forward - (beta - before) * path.difference(x)
            x = path.move(x, beta, log_step)
        forward = processes.gather(forward)
        mean, forward_error = log_mean_exp(forward)
        upper, stderr_upper, depends = torch.full_like(mean, torch.inf), torch.zeros_like(mean), False
        if reverse:
            x, elsewhere = base.sample((mine,)), None
            if rows is not None:
                elsewhere = torch.arange(mine, device=x.device) % 2 == 1
                drawn = rows[torch.randint(len(rows), (mine,))].to(x)
                x = torch.where(elsewhere.view(-1, *(1 for _ in dist.event_shape)), torch.randn_like(x), drawn)
            back = torch.zeros_like(path.difference(x))
            for _ in range(200 if warmup is None else warmup):
                x = path.move(x, levels[-1], log_steps[-1])
            falls = zip(levels[:0:-1], levels[-2::-1], log_steps[:0:-1], strict=True)
            for beta, below, log_step in progress.steps(falls, "temperatures, reversed", len(levels) - 1):
                x = path.move(x, beta, log_step)
                back = back + (beta - below) * path.difference(x)
            everyones = None if elsewhere is None else processes.gather(elsewhere)
            upper, stderr_upper, depends = end_by_start(-processes.gather(back), everyones)
    low_end = forward.mean(0), forward.std(0) / math.sqrt(chains)
    method = ("AIS and reverse AIS by HMC" if reverse else "AIS by HMC") + (DEPENDS if depends else "")
    return LogPartition.annealed(mean, forward_error, low_end, (upper, stderr_upper), method)
