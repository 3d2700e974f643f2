"""Bounds of log-likelihoods under a diffusion: all terms of its ELBO, or weights of whole paths."""

from __future__ import annotations

from typing import Any, Protocol

import pyro
import torch
from torch import Tensor

from ... import progress
from ...annealing.weights import log_mean_exp
from ...checks import check_count
from .diffusion_paths import Diffusion, time_of
from .evidence import WIDTH, Evidence


class BoundedDiffusion(Diffusion, Protocol):
    """A diffusion that knows the terms of its bound."""

    def step_terms(self, x: Tensor, time: Tensor) -> Tensor:
        """The loss of every row at a time of its own."""
        ...

    def end_terms(self, x: Tensor) -> Tensor:
        """The loss of every row at the noisy end."""
        ...


def bound(model: BoundedDiffusion, x: Tensor, method: str, **counts: Any) -> Evidence:
    """A lower bound of every row's log-likelihood, in nats, in memory that does not grow with the number of steps.

    Args:
        model: the diffusion.
        x: rows.
        method: ``"steps"``, all terms of the variational bound, or ``"paths"``, the logarithm of the mean weight of paths.
        counts: for ``"steps"`` the number of ``rounds`` that are averaged; for ``"paths"`` the number of ``particles``.

    Raises:
        ValueError: a count below one.
    """
    name, count = next(iter(counts.items()))
    count = check_count(name, count)
    with torch.no_grad(), pyro.validation_enabled(False):
        if method == "paths":
            weights = torch.stack([_path_weights(model, x) for _ in progress.steps(range(count), "paths")])
            values, errors = log_mean_exp(weights)
            error = float(errors.square().sum().sqrt() / len(errors)) if count > 1 else float("nan")
            how = f"importance-weighted lower bound, {count} paths of {model.steps} steps"
        else:
            rounds = torch.stack([_all_terms(model, x) for _ in range(count)])
            values = -rounds.mean(0)
            # Rows have noise of their own: their variances add up.
            error = float((rounds.var(0).sum() / count).sqrt() / len(x)) if count > 1 else float("nan")
            how = f"variational lower bound, all {model.steps} terms"
    lower = -WIDTH * error if error == error else -float("inf")
    return Evidence(values, kind="lower bound", method=how, stderr=error, lower=lower, upper=float("inf"), details={})


def _all_terms(model: BoundedDiffusion, x: Tensor) -> Tensor:
    total = model.end_terms(x).double()
    for t in progress.steps(range(1, model.steps + 1), "times", model.steps):
        total += model.step_terms(x, torch.full((len(x),), t, device=x.device))
    return total


def _path_weights(model: Diffusion, x: Tensor) -> Tensor:
    """Log weights of one path per row."""
    state, corruption = model.clean(x), model.corruption
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for t in range(1, model.steps + 1):
        forward = corruption.after(state, time_of(t - 1, x), time_of(t, x))
        noisy = forward.sample()
        total += model.reverse(noisy, time_of(t, x)).log_prob(x if t == 1 else state) - forward.log_prob(noisy)
        state = noisy
    return total + corruption.end(state).log_prob(state)
