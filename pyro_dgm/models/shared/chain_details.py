"""Figures that tell how far the draws of conditional chains can be trusted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro.ops.stats import autocovariance
from torch import Tensor

from ...inference.pareto import pareto

PROJECTIONS = 8
"""Random sums of the unknown entries, with signs, by which a row's chain is judged."""

FEWEST = 8
"""Draws of a chain below which nothing is said of it."""


class Step(NamedTuple):
    """The state of one chain per row after a step, and what the step tells of itself.

    Attributes:
        rows: the rows with unknown entries filled in, ``rows x event_shape``.
        accepted: the share of the step's proposals that was accepted, ``rows``; None where there are none.
        log_density: the log-density of the chain's state up to a constant, ``rows``; None where it is not computed.
        log_weights: of a proposal that does not depend on the state, the log of target over proposal: ``rows``; else None.
    """

    rows: Tensor
    accepted: Tensor | None = None
    log_density: Tensor | None = None
    log_weights: Tensor | None = None


class KeptSteps:
    """The states that conditional chains kept, and what these chains tell of themselves.

    Attributes:
        steps: the states, one chain per row.
        accepted: the share of accepted proposals in every step from the middle of the warm-up on, so that a few draws are not
            judged by themselves.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.accepted: list[Tensor] = []

    def through(
        self, chain: Iterator[Step], warmup: int, draws: int, thinning: int, keep: bool = True
    ) -> Iterator[Step]:
        """Run the chains; yield, and with ``keep`` keep, every ``thinning``-th state after the warm-up, ``draws`` in all."""
        for number, step in enumerate(itertools.islice(chain, warmup + draws * thinning)):
            if keep and step.accepted is not None and number >= warmup // 2:
                self.accepted.append(step.accepted)
            if number >= warmup and (number - warmup + 1) % thinning == 0:
                if keep:
                    self.steps.append(step)
                yield step

    def rows(self) -> Tensor:
        """The rows of all kept states, ``draws x rows x event_shape``."""
        return torch.stack([step.rows for step in self.steps])

    def details(self, known: Tensor) -> dict[str, Any]:
        """The details by name: see ``dgm.condition_with_details``.

        Args:
            known: the known entries, ``rows x event_shape``.
        """
        figures = projections(self.rows(), known)
        densities = [step.log_density.double() for step in self.steps if step.log_density is not None]
        if densities:
            figures = torch.cat([figures, torch.stack(densities).unsqueeze(-1)], -1)
        found: dict[str, Any] = {"method": "chains", **chain_figures(figures)}
        if self.accepted:
            rates = torch.stack(self.accepted).double().mean(0)
            found |= {"smallest_acceptance": float(rates.min()), "row_of_smallest_acceptance": int(rates.argmin())}
        weights = [step.log_weights for step in self.steps if step.log_weights is not None]
        return found | (pareto(torch.stack(weights)) if weights else {})


def projections(rows: Tensor, known: Tensor) -> Tensor:
    """Sums of the unknown entries with random signs, always the same: ``... x rows x PROJECTIONS``.

    Args:
        rows: ``... x rows x event_shape``.
        known: the known entries, ``rows x event_shape``.
    """
    values, known = rows.flatten(1 - known.dim()), known.flatten(1)
    signs = torch.randint(0, 2, (known.shape[1], PROJECTIONS), generator=torch.Generator().manual_seed(0))
    return torch.where(known, 0.0, values).double() @ (2.0 * signs - 1).double().to(values.device)


def chain_figures(figures: Tensor) -> Mapping[str, float]:
    r"""The smallest effective sample size and the largest R-hat of some figures of chains: ``draws x rows x figures``.

    Every chain is judged by its two halves, which have the variance W within and $\hat V$ altogether: $\hat R =
    \sqrt{\hat V / W}$, and the effective sample size is the number of draws over $-1 + 2 \sum_t (\rho_{2t} + \rho_{2t+1})$,
    summed while the pairs are positive and made monotone (Geyer 1992; Gelman et al. 2013). Figures that never change say
    nothing and are left out; with fewer than 8 draws the result is empty.

    Example:
        >>> found = chain_figures(torch.randn(4000, 2, 1, generator=torch.Generator().manual_seed(0)))
        >>> found["smallest_effective_sample_size"] > 3000, found["largest_r_hat"] < 1.01
        (True, True)
    """
    moves = (figures.amax(0) > figures.amin(0)).flatten()
    if len(figures) < FEWEST or not bool(moves.any()):
        return {}
    half = len(figures) // 2
    chains = figures.double().flatten(1)[: 2 * half, moves].unflatten(0, (2, half))
    within = chains.var(1).mean(0)
    total = within * (half - 1) / half + chains.mean(1).var(0)
    covariance = autocovariance(chains, 1).mean(0) * half / (half - 1)
    correlation = 1 - (within - covariance) / total
    correlation[0] = 1.0
    pairs = correlation[: half // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    pairs = torch.where((pairs < 0).cumsum(0) > 0, 0.0, pairs).cummin(0).values
    size = 2 * half / (2 * pairs.sum(0) - 1).clamp_min(1e-3)
    r_hat = (total / within).sqrt()
    return {
        "smallest_effective_sample_size": float(size.clamp(1.0, len(figures)).min()),
        "largest_r_hat": float(r_hat.max()),
    }


def worst(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The details of several parts of the rows as one: the smallest of what is smallest, the largest of what is largest.

    >>> worst([{"method": "chains", "largest_r_hat": 1.5}, {"method": "chains", "largest_r_hat": 1.1}, {"method": "chains"}])
    {'method': 'chains', 'largest_r_hat': 1.5}
    """
    joined: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if name in joined and name.startswith(("smallest", "largest")):
                value = (min if name.startswith("smallest") else max)(joined[name], value)
            joined[name] = value
    return joined
