"""The error of annealing over latents, measured on rows drawn from the model itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..inference.sites import sites
from ..native import out_of_autocast
from .coordinates import SCALES, LatentCoordinates
from .latents import inverse_temperatures, learn_steps, run_chains
from .normalisers import AnnealedNormalisers
from .weights import log_mean_exp


class BidirectionalGap(NamedTuple):
    """Mean bounds of log p(x) over rows drawn from a model, in nats per row.

    Attributes:
        lower: the mean of $\\log \\frac1K \\sum_k w_k$ of the forward runs.
        upper: the mean of $-\\log \\frac1K \\sum_k w_k$ of the reverse runs.
        lower_stderr, upper_stderr: their standard errors, over the rows drawn.
        gap: upper - lower. In expectation neither bound is further than this from the truth.
        gap_stderr: the standard error of the gap. It is smaller than those of the bounds, which are over the same rows.
    """

    lower: float
    upper: float
    lower_stderr: float
    upper_stderr: float
    gap: float
    gap_stderr: float


@out_of_autocast
def bidirectional_gap(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    n: int = 100,
    *,
    temperatures: int | Sequence[float] | Tensor = 100,
    chains: int = 16,
    num_steps: int = 5,
    rows: int = 4000,
) -> BidirectionalGap:
    r"""Bound log p(x) by annealing, on rows drawn from the model (bidirectional Monte Carlo, Grosse et al. 2015).

    In an ancestral draw $(z, x)$ the latents z are an exact draw from $p(z \mid x)$. Reverse runs start there and end at the
    guide. Their weights have $E[w] = 1 / p(x)$, so that $-\log \frac1K \sum_k w_k$ is an upper bound in expectation. The figure
    of the forward runs is a lower bound. The gap holds for rows like the model's draws; for data the posterior may be
    harder to reach.

    Args:
        model: a program as ``model(x=None, size=None)`` with the observed site ``"x"``.
        guide: its guide.
        n: rows to draw, at least 2.
        temperatures: as for ``dgm.annealed_log_weights``.
        chains: K, in each direction.
        num_steps: as for ``dgm.annealed_log_weights``.
        rows: chains times rows of one pass; it bounds the memory and changes nothing else.

    Raises:
        ValueError: a count out of range, a program without the site ``"x"``, or as ``dgm.annealed_log_weights``.

    Example:
        >>> import pyro_dgm as dgm
        >>> sbn, _ = dgm.SBN.example()
        >>> bounds = dgm.bidirectional_gap(sbn.model, sbn.guide, 50, temperatures=20, chains=4)
        >>> abs(bounds.upper - bounds.lower - bounds.gap) < 1e-5
        True
    """
    levels = inverse_temperatures(temperatures, chains, num_steps)
    if n < 2:
        raise ValueError(f"n got {n}; expected at least 2 rows, to estimate the error")
    lower, upper, normalisers = [], [], AnnealedNormalisers()
    model = normalisers.around(model)
    with torch.no_grad(), pyro.validation_enabled(False):
        drawn = {name: site["value"] for name, site in sites(poutine.trace(model).get_trace(None, n))}
        if "x" not in drawn:
            raise ValueError(f"the model has the sites {sorted(drawn)}; expected the observed one to be called 'x'")
        size = max(rows // max(chains, SCALES), 1)
        for start in range(0, n, size):
            chunk = {name: value[start : start + size] for name, value in drawn.items()}
            latents = LatentCoordinates(model, guide, (chunk["x"],), {})
            steps = learn_steps(latents, levels, num_steps)
            forward = run_chains(latents, latents.draw(chains), levels, steps, num_steps)
            reverse = run_chains(latents, latents.at(chunk, chains), levels[::-1], steps[::-1], num_steps)
            lower.append(log_mean_exp(forward.log_weights)[0])
            upper.append(-log_mean_exp(reverse.log_weights)[0])
    normalisers.warn()
    below, above = torch.cat(lower).double(), torch.cat(upper).double()
    means, errors = zip(
        *((float(v.mean()), float(v.std()) / n**0.5) for v in (below, above, above - below)), strict=True
    )
    return BidirectionalGap(means[0], means[1], errors[0], errors[1], means[2], errors[2])
