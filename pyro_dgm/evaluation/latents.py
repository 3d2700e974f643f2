"""The information that latent variables carry: KL terms site by site, and active units."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from ..annealing.normalisers import AnnealedNormalisers
from ..inference.importance import per_datum, traces
from ..inference.normalisers import up_to_normalisers
from ..inference.sites import refuse_auxiliary, sites
from ..models.shared.arguments import rows_for
from ..native import out_of_autocast

Program = Callable[..., Any]


@dataclass(frozen=True)
class SiteKL:
    r"""$E_x E_q \log q(z \mid x, \cdot) / p(z \mid \cdot)$ of a latent site, in nats per row.

    Attributes:
        value: one figure per component, or a single one where the components depend on one another in a way that is not known.
        stderr: standard errors from the draws, of the same shape; 0 where the term does not depend on draws.
        total: the site's term in the ELBO, which is the sum of ``value``.
        total_stderr: its standard error.
        method: ``"closed form"`` (given the draws that come before the site) or ``"Monte Carlo"``; with the way that log Z was
            annealed, where the site is energy-based and has too many states to list.
    """

    value: Tensor
    stderr: Tensor
    total: float
    total_stderr: float
    method: str


@dataclass(frozen=True)
class SiteActivity:
    r"""$\mathrm{Cov}_x(E_{q(z \mid x)}[z])$ of every component of a latent site.

    Attributes:
        variance: the variance over the rows, ``event_shape``.
        active: booleans, ``event_shape``: whether the variance is above the threshold.
    """

    variance: Tensor
    active: Tensor


@out_of_autocast
def kl_per_latent(
    model: Program, guide: Program, x: Tensor, *args: Any, draws: int = 100, rows: int = 4000
) -> dict[str, SiteKL]:
    r"""The nats that every latent site takes from the ELBO (20.77): $E_x E_q \log q(z_i \mid x, \cdot) / p(z_i \mid \cdot)$.

    The sum over all sites is $E_q \log p(x \mid z) - \mathcal L(q)$, so the terms tell which latents carry a model's
    information about x. With one stochastic layer they are divergences $\mathrm{KL}(q(z \mid x) \| p(z))$, and a component
    with the term 0 carries nothing; with several layers a single term may be negative. A site's term is taken in closed form,
    given the draws before it, if ``torch.distributions`` knows the divergence **and** the guide draws before the site all
    latents that the model draws before it. Otherwise, as for the lower layers of a guide that draws upwards, it is the mean
    of $\log q - \log p$.

    ``Independent`` distributions, and those that have ``conditionals``, have one figure per component.

    Args:
        model: a Pyro program with a data plate at dim -1.
        guide: its guide.
        x: data rows, the first argument of both; ``args`` are the other arguments.
        draws: draws of all latents per row, at least 2.
        rows: the number of rows times draws that are taken at once; it bounds the memory and changes nothing else.

    Returns:
        A ``SiteKL`` for every latent site, in the model's order.

    Raises:
        ValueError: fewer than two draws; model and guide do not fit each other; a site outside the data plate; an
            auxiliary site of the guide.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> kl = dgm.kl_per_latent(vae.model, vae.guide, x)["z"]
        >>> kl.value.shape, kl.method
        (torch.Size([2]), 'closed form')
    """
    terms_by_site: dict[str, list[Tensor]] = {}
    methods: dict[str, str] = {}
    x, normalisers = rows_for(model, x), AnnealedNormalisers()
    for model_trace, guide_trace in _runs(normalisers.around(model), guide, x, args, draws, rows):
        refuse_auxiliary(guide_trace, "a latent's KL term")
        before_in_guide, before_in_model = _sites_before(guide_trace), _sites_before(model_trace)
        for name, p, q in _latents(model_trace, guide_trace):
            conditions_drawn = before_in_model[name] <= before_in_guide[name]
            terms, methods[name] = _terms(p["fn"], q["fn"], q["value"], conditions_drawn)
            terms = torch.where(_broadcast_mask(_mask(name, p, q), terms), terms, 0.0)
            terms_by_site.setdefault(name, []).append(terms.double().mean(1))
    result = {}
    for name, chunks in terms_by_site.items():
        terms = torch.cat(chunks)  # draws x components
        totals = terms.reshape(len(terms), -1).sum(1)
        error, total_error = (draw.std(0) / len(terms) ** 0.5 for draw in (terms, totals))
        result[name] = SiteKL(terms.mean(0), error, float(totals.mean()), float(total_error), methods[name])
        if name in normalisers.found:
            method = f"{methods[name]}, log Z: {normalisers.found[name].method}"
            result[name] = dataclasses.replace(result[name], method=method)
    return result


@out_of_autocast
def active_units(
    model: Program, guide: Program, x: Tensor, *args: Any, threshold: float = 0.01, draws: int = 100, rows: int = 4000
) -> dict[str, SiteActivity]:
    r"""Units whose posterior mean moves with the data: $\mathrm{Cov}_x(E_{q(z \mid x)}[z]) > 0.01$ (Burda et al. 2015).

    Where a site's distribution depends on draws before it, its mean is averaged over them. The noise that this leaves in the
    variance is estimated from the draws and subtracted (so that a variance of 0 may come out slightly negative). Rows in which
    a site is masked do not count; where fewer than two are left the variance is NaN.

    Args:
        model: a Pyro program with a data plate at dim -1.
        guide: its guide.
        x: data rows, at least two, the first argument of both; ``args`` are the other arguments.
        threshold: an active unit's variance is above it.
        draws: draws of all latents per row, at least 2.
        rows: the number of rows times draws that are taken at once; it bounds the memory and changes nothing else.

    Returns:
        A ``SiteActivity`` for every latent site, in the model's order.

    Raises:
        ValueError: as ``kl_per_latent``, or fewer than two rows.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> dgm.active_units(vae.model, vae.guide, x)["z"].active.shape
        torch.Size([2])
    """
    x = rows_for(model, x)
    if len(x) < 2:
        raise ValueError(f"x got {len(x)} rows; expected at least 2, for a variance over rows")
    means_by_site: dict[str, list[Tensor]] = {}
    masks: dict[str, Tensor] = {}
    for model_trace, guide_trace in _runs(up_to_normalisers(model), guide, x, args, draws, rows):
        for name, p, q in _latents(model_trace, guide_trace):
            means = _mean(q["fn"], q["value"])
            masks[name] = _mask(name, p, q).expand(means.shape[:2])[0]
            means_by_site.setdefault(name, []).append(means.double())
    result = {}
    for name, chunks in means_by_site.items():
        means = torch.cat(chunks)[:, masks[name]]  # draws x rows x event
        if means.shape[1] < 2:
            variance = means.new_full(means.shape[2:], torch.nan)
        else:
            variance = means.mean(0).var(0) - means.var(0).mean(0) / len(means)
        result[name] = SiteActivity(variance, variance > threshold)
    return result


def _runs(
    model: Program, guide: Program, x: Tensor, args: tuple[Any, ...], draws: int, rows: int
) -> Iterator[tuple[Any, Any]]:
    """Traces of model and guide in chunks of particles, ``draws`` particles in all."""
    if draws < 2:
        raise ValueError(f"draws got {draws}; expected at least 2, so that their error can be told")
    chunk = max(rows // max(len(x), 1), 1)
    with torch.no_grad():
        for start in range(0, draws, chunk):
            model_and_guide = traces(model, guide, (x, *args), {}, min(chunk, draws - start), 1)
            for trace in model_and_guide:
                per_datum(trace, 1, lambda site: not site["is_observed"])  # refuses sites outside the data plate
            yield model_and_guide


def _latents(model_trace: Any, guide_trace: Any) -> Iterator[tuple[str, Any, Any]]:
    """The name of every latent site, with its node in either trace."""
    for name, site in sites(model_trace):
        if not site["is_observed"]:
            yield name, site, guide_trace.nodes[name]


def _sites_before(trace: Any) -> dict[str, set[str]]:
    """The latent sites that were drawn before each latent site."""
    names = [name for name, site in sites(trace) if not site["is_observed"]]
    return {name: set(names[:number]) for number, name in enumerate(names)}


def _terms(p: Any, q: Any, value: Tensor, conditions_drawn: bool) -> tuple[Tensor, str]:
    """The terms of the components (or of the site), ``draws x rows x components``, and the method.

    ``conditions_drawn`` tells whether the guide has drawn all latents on which p is conditioned before the site.
    """
    p_components, q_components = _components(p, value), _components(q, value)
    if p_components.event_shape == q_components.event_shape:
        p, q = p_components, q_components
    # A point mass may carry a log density, which Pyro's divergence for it leaves out.
    if conditions_drawn and not isinstance(q, Delta):
        shape = torch.broadcast_shapes(p.batch_shape, q.batch_shape)  # some divergences need equal ones
        try:
            return kl_divergence(q.expand(shape), p.expand(shape)), "closed form"
        except NotImplementedError:
            pass
    return q.log_prob(value) - p.log_prob(value), "Monte Carlo"


def _components(fn: Any, value: Tensor) -> Any:
    """The distributions of the components, each given the components before it; ``fn`` itself where it has none."""
    if hasattr(fn, "conditionals"):
        return fn.conditionals(value)
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn


def _mean(fn: Any, value: Tensor) -> Tensor:
    """The mean of a site's distribution; the draw itself if the distribution has no finite mean."""
    try:
        mean = _components(fn, value).mean
    except NotImplementedError:
        return value
    return mean.expand(value.shape) if mean.isfinite().all() else value


def _mask(name: str, p: Any, q: Any) -> Tensor:
    """The mask of a site, ``rows`` or ``draws x rows``: True where the site counts."""
    masks = [
        torch.as_tensor(True if site["mask"] is None else site["mask"], device=site["value"].device) for site in (p, q)
    ]
    if not torch.equal(*torch.broadcast_tensors(*masks)):
        raise ValueError(
            f"site {name!r} is masked in one way in the model and in another way in the guide; use the same mask"
        )
    return masks[0]


def _broadcast_mask(mask: Tensor, terms: Tensor) -> Tensor:
    """The mask with one axis of length 1 for every axis of the terms after draws and rows."""
    return mask.view((*mask.shape, *(1,) * (terms.dim() - 2)))
