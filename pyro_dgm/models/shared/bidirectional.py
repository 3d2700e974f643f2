"""The law of a bidirectional Helmholtz machine, by importance weights and by draws of the model (section 20.10.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ... import processes
from ...annealing.weights import log_mean_exp
from ...checks import check_count, check_memory
from ...inference.importance import per_datum
from ...inference.pareto import pareto
from ...inference.sites import site_of_rows, traced
from .evidence import WIDTH, Evidence

Weights = Callable[[Tensor], list[Tensor]]
"""The log weights of rows, in batches of ``particles x rows``."""


def bidirectional_evidence(model: Any, x: Tensor, weights: Weights, draws: int, particles: int) -> Evidence:
    r"""$\log p^*(x) = 2 \log \sum_z \sqrt{p(x, z)\, q(z \mid x)} - \log Z^2$ of every row (Bornschein et al. 2016).

    With $w(x, z) = p(x, z) / q(z \mid x)$ and K draws from the guide the sum is the mean of $\sqrt{w}$, and
    $Z^2 = E_{p(x, z)}\bigl[w(x, z)^{-1/2}\, E_{q(z' \mid x)} \sqrt{w(x, z')}\bigr] \le 1$ is a mean over draws of the model. The
    first term is, in expectation, too low, and so is $\log Z^2$, whose few large terms draws may lack: the figure is an
    estimate. Its interval goes from that of $Z = 1$, a lower bound, to 1.96 standard errors above it.

    Args:
        model: with ``model(x, n)`` and ``guide(x)``.
        x: rows.
        weights: the log weights of draws from the guide, of given rows.
        draws: the number of draws of the model.
        particles: the number of draws from the guide per row, K.

    Raises:
        ValueError: fewer than two draws of the model, or more than memory holds.
    """
    draws = check_count("draws", draws, 2, what="the number of draws of the model behind log Z")
    check_memory({"draws": draws}, x[0].numel(), "log_likelihood")
    sums, errors = _log_roots(weights(x))
    # All processes take the same draws, since they share the particles of every row.
    with torch.no_grad(), pyro.validation_enabled(False), processes.one_stream():
        dream = traced(model.model, "model", (None, draws), {})
        rows = site_of_rows(dream)["value"]
        recognised = traced(poutine.replay(model.guide, trace=dream), "guide", (rows,), {})
        own = per_datum(dream, 1) - per_datum(recognised, 1)
    terms = _log_roots(weights(rows))[0] - 0.5 * own
    log_z, error_of_z = (float(t) for t in log_mean_exp(terms.double()))
    log_z = min(log_z, 0.0)
    error_of_rows = float(2 * errors.square().sum().sqrt() / len(errors)) if particles > 1 else math.nan
    stderr = math.hypot(error_of_rows, error_of_z)
    lower = log_z - WIDTH * error_of_rows
    return Evidence(
        2 * sums - log_z,
        kind="estimate",
        method=f"bidirectional law p*, K={particles}, log Z² {log_z:.2f} from {draws} draws of the model",
        stderr=stderr,
        lower=-math.inf if math.isnan(lower) else lower,
        upper=math.inf if math.isnan(stderr) else WIDTH * stderr,
        details={
            "particles": particles,
            "draws": draws,
            "log_squared_normaliser": log_z,
            **pareto(terms.unsqueeze(-1)),
        },
    )


def _log_roots(batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    r"""$\log \frac1K \sum_k \sqrt{w_k}$ of every row, and its standard error."""
    means, errors = zip(*(log_mean_exp(0.5 * weights) for weights in batches), strict=True)
    return torch.cat(means), torch.cat(errors)
