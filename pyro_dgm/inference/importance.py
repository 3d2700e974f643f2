"""Importance weights of a model and its guide, one per particle and datum."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, NoReturn

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..checks import check_count
from ..distributions.sums import log_probs
from .sites import FAILURES, PARTICLES, explain, first_line, sites, traced


def log_weights(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    particles: int,
    max_plate_nesting: int = 1,
    **kwargs: Any,
) -> Tensor:
    r"""$\log w_{kn} = \log p(x_n, z_{kn}) - \log q(z_{kn} \mid x_n)$, as ``dgm.log_weights`` has it, with sites as they are."""
    check_nesting("log_weights", max_plate_nesting)
    model_trace, guide_trace = traces(model, guide, args, kwargs, particles, max_plate_nesting)
    return weights_of_traces(model_trace, guide_trace, particles, max_plate_nesting)


def check_nesting(owner: str, nesting: Any) -> None:
    """Refuse a number of plates that leaves no room for the data plate.

    Raises:
        ValueError: it is no integer of at least 1.
    """
    check_count(f"{owner}: max_plate_nesting", nesting, what="the number of plates", why=" (the data plate)")


def particle_plate(particles: int, nesting: int) -> Any:
    """The plate of the particles, outside all others."""
    return pyro.plate(PARTICLES, particles, dim=-1 - nesting)


def traces(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    particles: int,
    nesting: int,
    paths: bool = True,
) -> tuple[Any, Any]:
    """The traces of the model and of the guide, with particles in the outermost plate.

    With ``paths=False`` draws are constants, even those of reparameterised latents. Auxiliary sites of the guide
    (``infer={"is_auxiliary": True}``), such as those of Pyro's ``AutoNormal``, need no counterpart in the model.

    Raises:
        ValueError: the guide lacks a latent site of the model, or has one that the model does not sample; their plates differ
            in size; there are no rows; a site cannot be drawn or has parameters that are not finite.
    """
    # The handler is outside the trace, so that it detaches draws before the trace takes its copy of a site.
    with nullcontext() if paths else _Constants(), particle_plate(particles, nesting):
        guide_trace = traced(guide, "guide", args, kwargs)
    replayed = poutine.replay(model, trace=guide_trace)
    try:
        with particle_plate(particles, nesting):
            model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
    except FAILURES as error:
        # Draws for another number of rows than the model's fail somewhere inside it; say that instead.
        unreplayed: Any = None
        with poutine.block(), torch.no_grad(), suppress(*FAILURES):
            unreplayed = poutine.trace(model).get_trace(*args, **kwargs)
        if unreplayed is not None:
            _check_sites(unreplayed, guide_trace)
        with particle_plate(particles, nesting):
            explain(replayed, "model", args, kwargs, error)
    _check_sites(model_trace, guide_trace)
    return model_trace, guide_trace


class _Constants(Messenger):
    """Detaches draws from the graph before anything is computed from them."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor):
            msg["value"] = msg["value"].detach()


def weights_of_traces(model_trace: Any, guide_trace: Any, particles: int, nesting: int) -> Tensor:
    total = per_datum(model_trace, nesting) - per_datum(guide_trace, nesting)
    return total.expand(particles, total.shape[-1])


def _check_sites(model_trace: Any, guide_trace: Any) -> None:
    latent = {name for name, site in sites(model_trace) if not site["is_observed"]}
    drawn = {name for name, site in sites(guide_trace) if not site["is_observed"]}
    if latent != drawn:
        if latent - drawn:
            raise ValueError(f"the guide lacks the model's latent sites {sorted(latent - drawn)}; sample them there")
        strange = sorted(n for n in drawn - latent if not guide_trace.nodes[n]["infer"].get("is_auxiliary"))
        if strange:
            raise ValueError(
                f"the guide has sites {strange} that the model does not sample; remove them, or mark what latents are made of by "
                'infer={"is_auxiliary": True}'
            )
    _check_plates(model_trace, guide_trace)


def _check_plates(model_trace: Any, guide_trace: Any) -> None:
    # A replayed plate takes the guide's rows, but keeps its own full size. The data plate is known by its dim, others by name.
    first_seen: dict[Any, tuple[Any, str]] = {}
    for whose, trace in (("guide", guide_trace), ("model", model_trace)):
        for name, site in sites(trace):
            for frame in site["cond_indep_stack"]:
                key = -1 if frame.dim == -1 else frame.name
                if key not in first_seen:
                    first_seen[key] = frame, f"site {name!r} of the {whose}"
                    continue
                first = first_seen[key][0]
                if first.size != frame.size or first.full_size != frame.full_size:
                    _refuse_plates(*first_seen[key], frame, f"site {name!r} of the {whose}")


def _refuse_plates(one: Any, site_of_one: str, two: Any, site_of_two: str) -> NoReturn:
    sizes = [frame.full_size or frame.size for frame in (one, two)]
    if sizes[0] == sizes[1]:
        sizes = [f"{frame.size} of {size} rows" for frame, size in zip((one, two), sizes, strict=True)]
    raise ValueError(
        f"{site_of_one} is in plate {one.name!r} of size {sizes[0]}, but {site_of_two} in plate {two.name!r} of size {sizes[1]}; "
        "give both plates the same size, as in pyro.plate('data', len(x))"
    )


def per_datum(trace: Any, nesting: int, keep: Callable[[Any], bool] | None = None) -> Tensor:
    """The log-probability of every datum, summed over the sites (of which ``keep`` is true): ``particles x rows``.

    Raises:
        ValueError: a site is not in the data plate, or its value does not fit its distribution.
    """
    total: Any = 0.0
    for name, site in sites(trace):
        if keep is not None and not keep(site):
            continue
        if "unscaled_log_prob" not in site:  # Pyro's own key
            try:
                site["unscaled_log_prob"] = log_probs(site["fn"], site["value"])
            except (ValueError, RuntimeError) as error:
                raise ValueError(f"the log-probability of site {name!r} failed: {first_line(error)}") from error
        log_prob = scale_and_mask(site["unscaled_log_prob"], mask=site["mask"])
        plates = [f for f in site["cond_indep_stack"] if f.vectorized and f.dim == -1]
        if not plates:
            auxiliary = " (of Pyro's automatic guides use AutoNormal)" if site["infer"].get("is_auxiliary") else ""
            raise ValueError(
                f"site {name!r} is not in the data plate (the plate at dim -1), so it has no weight per datum; "
                f"put it into `with pyro.plate('data', len(x)):`{auxiliary}"
            )
        inner = log_prob.dim() - 1 - (1 if log_prob.dim() > nesting else 0)
        total = total + (log_prob.sum(tuple(range(-1 - inner, -1))) if inner > 0 else log_prob)
    return total


def log_mean(log_weights: Tensor) -> Tensor:
    r"""$\log \frac1K \sum_k w_k$ over the first dimension."""
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))
