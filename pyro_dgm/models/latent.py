"""What directed models with latent variables share: samples, evidence by importance weights, progress."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor

from ..energy import log_mean_exp
from ..objectives.importance import log_weights, metropolis_step
from .model import Evidence, ProbabilisticModel, data_plate


class LatentVariableModel(ProbabilisticModel):
    """A Pyro model with latent sites and a guide for them."""

    def data_plate(self, x: Tensor | None, size: int | None) -> AbstractContextManager[Any]:
        """The data plate around a batch, or around ``size`` rows to be drawn."""
        return data_plate((size or 1) if x is None else len(x), size)

    def sample(self, n: int) -> Tensor:
        """``n`` independent draws by ancestral sampling."""
        with torch.no_grad():
            return self.model(None, n)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The ELBO on the validation rows, in nats a row."""
        elbo = Trace_ELBO(max_plate_nesting=1)
        with torch.no_grad():
            return {"valid_elbo": -float(elbo.loss(self.model, self.guide, valid)) / len(valid)}

    def impute(self, x: Tensor, known: Tensor, sweeps: int = 500) -> Tensor:
        r"""Means of the unknown entries, by Metropolis within Gibbs (Mattei and Frellsen 2018), one chain a row.

        Latents are proposed from the guide and accepted by their importance weights, so that the chain's law is
        $p(x_a, z \mid x_b)$; then the unknown entries are drawn from $p(x \mid z)$. The first half of the sweeps is
        dropped.
        """
        if sweeps < 2:
            raise ValueError(f"sweeps got {sweeps}; expected at least 2")
        with torch.no_grad():
            current = torch.where(known, x, self.sample(len(x)))
            latents = poutine.trace(self.guide).get_trace(current)
            total = torch.zeros_like(x)
            for sweep in range(sweeps):
                latents = metropolis_step(self.model, self.guide, latents, current)
                drawn = poutine.replay(self.model, trace=latents)(None, len(x))
                current = torch.where(known, x, drawn)
                if sweep >= sweeps // 2:
                    total += current
        return torch.where(known, x, total / (sweeps - sweeps // 2))

    def evidence(
        self, x: Tensor, method: str | None = None, *, particles: int = 5000, rows: int = 4000, **options: Any
    ) -> Evidence:
        r"""The importance-weighted lower bound $E \log \frac1K \sum_k w_k \le \log p(x)$ of every row (20.79).

        Args:
            x: data.
            method: ``"importance"``, the only one here.
            particles: K.
            rows: decoder rows at once; it bounds the memory and changes nothing else.
        """
        if method not in (None, "importance") or options:
            raise ValueError(
                f"log_likelihood got method={method!r} and {sorted(options)}; {type(self).__name__} has "
                "method='importance' with particles= and rows="
            )
        if particles < 1:
            raise ValueError(f"particles got {particles}; expected at least 1")
        return self._importance_weighted(self.model, x, particles, rows)

    def _importance_weighted(self, model: Any, x: Tensor, particles: int, rows: int) -> Evidence:
        """The bound under ``model``, which may be the model's own program with handlers around it."""
        bounds: list[Tensor] = []
        errors, sizes = [], []
        reliability: dict[str, float] = {}
        # Distributions would check their parameters for every particle; the data were checked once.
        with torch.no_grad(), pyro.validation_enabled(False):
            for batch in x.split(100):
                chunk = max(rows // len(batch), 1)
                weights = torch.cat(
                    [
                        log_weights(model, self.guide, batch, particles=min(chunk, particles - start))
                        for start in range(0, particles, chunk)
                    ]
                )
                if not bounds:
                    reliability = pareto(weights)
                bound, error = log_mean_exp(weights)
                bounds.append(bound)
                errors.append(error)
                sizes.append(1 / torch.softmax(weights, 0).square().sum(0))
        error = torch.cat(errors)
        stderr = float(error.square().sum().sqrt() / len(x)) if particles > 1 else math.nan
        return Evidence(
            torch.cat(bounds),
            kind="lower bound",
            method=f"importance-weighted lower bound, K={particles}",
            stderr=stderr,
            lower=-1.96 * stderr,
            upper=math.inf,
            details={
                "particles": particles,
                "effective_sample_size": float(torch.cat(sizes).mean()),
                **reliability,
            },
        )


def pareto(log_weights: Tensor, fewest: int = 100) -> dict[str, float]:
    r"""How heavy the tail of importance weights is: the Pareto index $\hat k$ of some rows (Vehtari et al. 2024).

    Above 0.7 the weights' mean, and so the bound, hangs on a few draws: the guide is too narrow somewhere.

    Args:
        log_weights: ``particles x rows``.
        fewest: particles below which there is no tail to speak of.

    Returns:
        the median of $\hat k$ over the rows and the share of rows above 0.7; nothing with too few particles.

    Example:
        >>> import torch
        >>> found = pareto(torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 0.1)
        >>> found["pareto_k_above_0.7"]
        0.0
    """
    if len(log_weights) < fewest:
        return {}
    import warnings

    import numpy
    from arviz import psislw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, k = psislw(log_weights.T.double().cpu().numpy())
    equal = (log_weights.max(0).values - log_weights.min(0).values < 1e-6).cpu().numpy()
    k = numpy.where(equal, 0.0, numpy.clip(k, None, 10.0))  # equal weights have no tail; an endless one counts as 10
    return {"pareto_k_median": float(numpy.median(k)), "pareto_k_above_0.7": float((k > 0.7).mean())}
