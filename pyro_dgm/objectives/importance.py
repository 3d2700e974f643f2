"""Importance weights of a model and its guide, per datum, and the bound they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.infer.util import torch_item
from torch import Tensor

_PLATE = "_importance_particles"


def log_weights(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    particles: int,
    max_plate_nesting: int = 1,
    **kwargs: Any,
) -> Tensor:
    r"""$\log w_{kn} = \log p(x_n, z_{kn}) - \log q(z_{kn} \mid x_n)$ in nats: ``particles x rows``.

    Every datum has weights of its own, whatever else is in the batch; a plate's subsampling scale does not enter them.
    The rows are the plate at dim -1, and all particles are drawn in one vectorised run.

    Args:
        model: a Pyro program with an observed site.
        guide: a Pyro program with the model's latent sites.
        particles: draws a datum.
        max_plate_nesting: the number of plates (the data plate and those around it).

    Raises:
        ValueError: a latent site is missing in the guide, or a site is not in the data plate; the message names it.
    """
    model_trace, guide_trace = _traces(model, guide, args, kwargs, particles, max_plate_nesting)
    return _weights(model_trace, guide_trace, particles, max_plate_nesting)


def _traces(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    particles: int,
    nesting: int,
) -> tuple[Any, Any]:
    with pyro.plate(_PLATE, particles, dim=-1 - nesting):
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    with pyro.plate(_PLATE, particles, dim=-1 - nesting):
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    _check_sites(model_trace, guide_trace)
    return model_trace, guide_trace


def _weights(model_trace: Any, guide_trace: Any, particles: int, nesting: int) -> Tensor:
    total = _per_datum(model_trace, nesting) - _per_datum(guide_trace, nesting)
    return total.expand(particles, total.shape[-1])


def posterior_draws(
    model: Callable[..., Any], guide: Callable[..., Any], *args: Any, draws: int, proposals: int, **kwargs: Any
) -> dict[str, dict[str, Tensor]]:
    """Latents drawn from the guide and resampled by their importance weights, row by row.

    Args:
        model: a Pyro program with one data plate.
        guide: its guide.
        draws: how many are kept.
        proposals: how many are drawn.

    Returns:
        ``posterior``, ``log_likelihood`` and ``posterior_predictive``, each ``{site: draws x rows x ...}``.
    """
    with torch.no_grad():
        model_trace, guide_trace = _traces(model, guide, args, kwargs, proposals, 1)
        weights = _weights(model_trace, guide_trace, proposals, 1)
        chosen = torch.multinomial(torch.softmax(weights, 0).T, draws, replacement=True).T
        columns = torch.arange(chosen.shape[1], device=chosen.device)
        groups: dict[str, dict[str, Tensor]] = {"posterior": {}, "log_likelihood": {}, "posterior_predictive": {}}
        for name, site in _sites(model_trace):
            if not site["is_observed"]:
                groups["posterior"][name] = site["value"].expand(proposals, *site["value"].shape[1:])[chosen, columns]
                continue
            groups["log_likelihood"][name] = site["fn"].log_prob(site["value"]).expand(weights.shape)[chosen, columns]
            groups["posterior_predictive"][name] = site["fn"].sample()[chosen, columns]
    return groups


def metropolis_step(model: Callable[..., Any], guide: Callable[..., Any], latents: Any, *args: Any) -> Any:
    """One independence-sampler step of every row's latents, proposed by the guide; returns their new guide trace."""
    old = poutine.trace(poutine.replay(guide, trace=latents)).get_trace(*args)
    new = poutine.trace(guide).get_trace(*args)
    log_ratio = torch.zeros(())
    for sign, trace in ((1.0, new), (-1.0, old)):
        replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace(*args)
        log_ratio = log_ratio + sign * (_per_datum(replayed, 1) - _per_datum(trace, 1))
    accept = torch.rand_like(log_ratio).log() < log_ratio
    for name, site in _sites(new):
        drawn: Any = site["value"]
        kept: Any = old.nodes[name]["value"]
        shape = accept.shape + (1,) * (site["value"].dim() - accept.dim())
        site["value"] = torch.where(accept.view(shape), drawn, kept)
    return new


def _sites(trace: Any) -> Iterator[tuple[str, Any]]:
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and name != _PLATE and type(site["fn"]).__name__ != "_Subsample":
            yield name, site


def _check_sites(model_trace: Any, guide_trace: Any) -> None:
    latent = {name for name, site in _sites(model_trace) if not site["is_observed"]}
    drawn = {name for name, _ in _sites(guide_trace)}
    if latent - drawn:
        raise ValueError(f"the guide lacks the model's latent sites {sorted(latent - drawn)}; sample them there")
    if drawn - latent:
        raise ValueError(f"the guide has sites {sorted(drawn - latent)} that the model does not sample; remove them")


def _per_datum(trace: Any, nesting: int) -> Tensor:
    total: Any = 0.0
    for name, site in _sites(trace):
        part = scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"])
        plates = [f for f in site["cond_indep_stack"] if f.vectorized and f.dim == -1]
        if not plates:
            raise ValueError(
                f"site {name!r} is not in the data plate (the plate at dim -1), so it has no weight per datum; "
                "put it into `with pyro.plate('data', len(x)):`"
            )
        inner = part.dim() - 1 - (1 if part.dim() > nesting else 0)
        total = total + (part.sum(tuple(range(-1 - inner, -1))) if inner > 0 else part)
    return total


class IWAE(ELBO):
    r"""The importance-weighted bound $\sum_n \log \frac1K \sum_k w_{kn}$ (20.79; Burda et al. 2015) for any model and guide.

    With K = 1 it is the ELBO; it never falls with K and tends to the log-likelihood. Each datum is averaged over its own
    particles, so bound and gradient of a row do not depend on the rest of the batch. Latents must be reparameterised.
    Use it as any Pyro ELBO: in ``SVI``, or as a module, ``IWAE(5)(model, guide)``.

    Args:
        particles: K.
        max_plate_nesting: the number of plates in the model.

    Raises:
        ValueError: ``particles`` below one; at the first step, a latent that is not reparameterised.

    Example:
        >>> import pyro_dgm as dgm
        >>> from pyro.infer import SVI
        >>> from pyro.optim import Adam
        >>> vae, x = dgm.VAE.example()
        >>> bool(SVI(vae.model, vae.guide, Adam({"lr": 1e-3}), dgm.IWAE(5)).step(x) > 0)
        True
    """

    def __init__(self, particles: int = 5, max_plate_nesting: int = 1) -> None:
        if particles < 1:
            raise ValueError(f"particles got {particles}; expected at least 1")
        super().__init__(num_particles=particles, max_plate_nesting=max_plate_nesting, vectorize_particles=True)

    def _get_trace(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError("IWAE computes its weights in one vectorised run; use differentiable_loss")

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the bound, summed over the rows and scaled as the data plate is."""
        nesting = self.max_plate_nesting
        model_trace, guide_trace = _traces(model, guide, args, kwargs, self.num_particles, nesting)
        for name, site in _sites(guide_trace):
            if not site["fn"].has_rsample:
                raise ValueError(
                    f"site {name!r} of the guide is a {type(site['fn']).__name__}, which is not reparameterised; "
                    "IWAE's gradient would be biased. Use a continuous latent"
                )
        weights = _weights(model_trace, guide_trace, self.num_particles, nesting)
        scales = {name: float(site["scale"]) for trace in (model_trace, guide_trace) for name, site in _sites(trace)}
        scale = next(iter(scales.values()))
        for name, other in scales.items():
            if other != scale:
                raise ValueError(
                    f"site {name!r} is scaled by {other:g} and another one by {scale:g}; the bound of a datum has one scale, "
                    "that of the data plate"
                )
        return -scale * (torch.logsumexp(weights, 0) - math.log(self.num_particles)).sum()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return torch_item(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return torch_item(loss)
