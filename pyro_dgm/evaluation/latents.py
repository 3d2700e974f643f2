"""What latent variables carry: KL terms site by site, and which units are active."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from ..inference.importance import per_datum, traces
from ..inference.sites import refuse_auxiliary, sites

Program = Callable[..., Any]


@dataclass(frozen=True)
class SiteKL:
    r"""$E_x E_q \log q(z \mid x, \cdot) / p(z \mid \cdot)$ of a latent site, in nats a row.

    Attributes:
        value: one figure a component, or a single one where the components depend on one another in a way that is not known.
        stderr: standard errors of the draws, of the same shape; 0 where no draw matters.
        total: the site's term in the ELBO, which is the sum of ``value``.
        total_stderr: its standard error.
        method: ``"closed form"`` (given the draws that come before the site) or ``"Monte Carlo"``.
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
        variance: over the rows, ``event_shape``.
        active: where it is above the threshold.
    """

    variance: Tensor
    active: Tensor


def kl_per_latent(
    model: Program, guide: Program, x: Tensor, *args: Any, draws: int = 100, rows: int = 4000
) -> dict[str, SiteKL]:
    r"""How many nats every latent site takes from the ELBO (20.77): $E_x E_q \log q(z_i \mid x, \cdot) / p(z_i \mid \cdot)$.

    The sum over all sites is $E_q \log p(x \mid z) - \mathcal L(q)$, so the terms say where a model keeps what it knows of x.
    With one stochastic layer they are divergences $\mathrm{KL}(q(z \mid x) \| p(z))$, and a term of 0 is a component that
    carries nothing; in deeper ones a single term may be negative. A site's term is taken in closed form given the draws before
    it, where ``torch.distributions`` knows the divergence **and** all that the model draws before the site the guide has drawn
    before it too. Elsewhere, as for the lower layers of a guide that draws upwards, it is the mean of $\log q - \log p$.

    Components of ``Independent`` distributions, and of those that have ``conditionals``, have figures of their own.

    Args:
        model: a Pyro program with a data plate at dim -1.
        guide: its guide.
        x: data, the first argument of both; ``args`` are the others.
        draws: of all latents, for every row; at least 2.
        rows: rows times draws at once; it bounds the memory and changes nothing else.

    Returns:
        a ``SiteKL`` for every latent site, in the model's order.

    Raises:
        ValueError: fewer than two draws; model and guide do not fit each other; a site outside the data plate; an
            auxiliary site of the guide.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> found = dgm.kl_per_latent(vae.model, vae.guide, x)["z"]
        >>> found.value.shape, found.method
        (torch.Size([2]), 'closed form')
    """
    found: dict[str, list[Tensor]] = {}
    methods: dict[str, str] = {}
    for model_trace, guide_trace in _runs(model, guide, x, args, draws, rows):
        refuse_auxiliary(guide_trace, "a latent's KL term")
        before = _before(guide_trace)
        for name, p, q in _latents(model_trace, guide_trace):
            earlier = _before(model_trace)[name] <= before[name]
            terms, methods[name] = _terms(p["fn"], q["fn"], q["value"], earlier)
            terms = torch.where(_spread(_mask(name, p, q), terms), terms, 0.0)
            found.setdefault(name, []).append(terms.double().mean(1))
    result = {}
    for name, parts in found.items():
        each = torch.cat(parts)  # draws x components
        total = each.reshape(len(each), -1).sum(1)
        error, total_error = (part.std(0) / len(each) ** 0.5 for part in (each, total))
        result[name] = SiteKL(each.mean(0), error, float(total.mean()), float(total_error), methods[name])
    return result


def active_units(
    model: Program, guide: Program, x: Tensor, *args: Any, threshold: float = 0.01, draws: int = 100, rows: int = 4000
) -> dict[str, SiteActivity]:
    r"""Units whose posterior mean moves with the data: $\mathrm{Cov}_x(E_{q(z \mid x)}[z]) > 0.01$ (Burda et al. 2015).

    Where a site's distribution depends on draws before it, its mean is averaged over them, and the noise that this leaves in
    the variance is estimated from the draws and taken off (so that a variance of 0 may come out slightly negative). Rows where a
    site is masked do not count.

    Args:
        model: a Pyro program with a data plate at dim -1.
        guide: its guide.
        x: data, the first argument of both, at least two rows; ``args`` are the others.
        threshold: what an active unit's variance exceeds.
        draws: of all latents, for every row; at least 2.
        rows: rows times draws at once; it bounds the memory and changes nothing else.

    Returns:
        a ``SiteActivity`` for every latent site, in the model's order.

    Raises:
        ValueError: as ``kl_per_latent``, or fewer than two rows.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> dgm.active_units(vae.model, vae.guide, x)["z"].active.shape
        torch.Size([2])
    """
    if len(x) < 2:
        raise ValueError(f"x got {len(x)} rows; expected at least 2, for a variance over rows")
    found: dict[str, list[Tensor]] = {}
    masks: dict[str, Tensor] = {}
    for model_trace, guide_trace in _runs(model, guide, x, args, draws, rows):
        for name, p, q in _latents(model_trace, guide_trace):
            means = _mean(q["fn"], q["value"])
            masks[name] = _mask(name, p, q).expand(means.shape[:2])[0]
            found.setdefault(name, []).append(means.double())
    result = {}
    for name, parts in found.items():
        means = torch.cat(parts)[:, masks[name]]  # draws x rows x event
        noise = means.var(0).mean(0) / len(means)
        variance = means.mean(0).var(0) - noise
        result[name] = SiteActivity(variance, variance > threshold)
    return result


def _runs(
    model: Program, guide: Program, x: Tensor, args: tuple[Any, ...], draws: int, rows: int
) -> Iterator[tuple[Any, Any]]:
    """Traces of model and guide whose particles are ``draws`` in all."""
    if draws < 2:
        raise ValueError(f"draws got {draws}; expected at least 2, so that their error can be told")
    chunk = max(rows // max(len(x), 1), 1)
    with torch.no_grad():
        for start in range(0, draws, chunk):
            pair = traces(model, guide, (x, *args), {}, min(chunk, draws - start), 1)
            for trace in pair:
                per_datum(trace, 1, lambda site: not site["is_observed"])  # refuses sites outside the data plate
            yield pair


def _latents(model_trace: Any, guide_trace: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every latent site with its node in either trace."""
    for name, site in sites(model_trace):
        if not site["is_observed"]:
            yield name, site, guide_trace.nodes[name]


def _before(trace: Any) -> dict[str, set[str]]:
    """The latent sites that were drawn before each one."""
    names = [name for name, site in sites(trace) if not site["is_observed"]]
    return {name: set(names[:place]) for place, name in enumerate(names)}


def _terms(p: Any, q: Any, value: Tensor, earlier: bool) -> tuple[Tensor, str]:
    """The terms of the components (or of the site), ``draws x rows x components``, and how they were found."""
    p_parts, q_parts = _parts(p, value), _parts(q, value)
    if p_parts.event_shape == q_parts.event_shape:
        p, q = p_parts, q_parts
    # A point mass may carry a log density, which the divergence that Pyro has for it leaves out.
    if earlier and not isinstance(q, Delta):
        shape = torch.broadcast_shapes(p.batch_shape, q.batch_shape)  # some divergences need equal ones
        try:
            return kl_divergence(q.expand(shape), p.expand(shape)), "closed form"
        except NotImplementedError:
            pass
    return q.log_prob(value) - p.log_prob(value), "Monte Carlo"


def _parts(fn: Any, value: Tensor) -> Any:
    """The distributions of the components, each given those before it; ``fn`` itself where they are not to be had."""
    if hasattr(fn, "conditionals"):
        return fn.conditionals(value)
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn


def _mean(fn: Any, value: Tensor) -> Tensor:
    """The mean of a site's distribution; the draw itself where there is none."""
    try:
        mean = _parts(fn, value).mean
    except NotImplementedError:
        return value
    return mean.expand(value.shape) if mean.isfinite().all() else value


def _mask(name: str, p: Any, q: Any) -> Tensor:
    """Where a site counts: ``rows`` or ``draws x rows``."""
    masks = [
        torch.as_tensor(True if site["mask"] is None else site["mask"], device=site["value"].device) for site in (p, q)
    ]
    if not torch.equal(*torch.broadcast_tensors(*masks)):
        raise ValueError(
            f"site {name!r} is masked in one way in the model and in another in the guide; use the same mask"
        )
    return masks[0]


def _spread(mask: Tensor, terms: Tensor) -> Tensor:
    return mask.view((*mask.shape, *(1,) * (terms.dim() - 2)))
