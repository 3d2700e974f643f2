"""Draws of the latents given the data, from the proposals of a guide: resampled by their weights, or as steps of a chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from .importance import per_datum, traces, weights_of_traces
from .normalisers import up_to_normalisers
from .sites import sites


def posterior_draws(
    model: Callable[..., Any], guide: Callable[..., Any], *args: Any, draws: int, proposals: int, **kwargs: Any
) -> dict[str, dict[str, Tensor]]:
    """Latents drawn from the guide and resampled by their importance weights, row by row.

    Args:
        model: a Pyro program with one data plate.
        guide: its guide.
        draws: the number of draws per row that are kept.
        proposals: the number of draws per row from the guide.

    Returns:
        ``posterior``, ``log_likelihood`` and ``posterior_predictive``, each ``{site: draws x rows x ...}``.
    """
    with torch.no_grad():
        # The log Z of a latent site is in all weights of a row, and goes out with their sum.
        model = up_to_normalisers(model, observed=False)
        model_trace, guide_trace = traces(model, guide, args, kwargs, proposals, 1)
        weights = weights_of_traces(model_trace, guide_trace, proposals, 1)
        chosen = torch.multinomial(torch.softmax(weights, 0).T, draws, replacement=True).T
        columns = torch.arange(chosen.shape[1], device=chosen.device)
        groups: dict[str, dict[str, Tensor]] = {"posterior": {}, "log_likelihood": {}, "posterior_predictive": {}}
        for name, site in sites(model_trace):
            if not site["is_observed"]:
                groups["posterior"][name] = site["value"].expand(proposals, *site["value"].shape[1:])[chosen, columns]
                continue
            groups["log_likelihood"][name] = site["fn"].log_prob(site["value"]).expand(weights.shape)[chosen, columns]
            groups["posterior_predictive"][name] = site["fn"].sample()[chosen, columns]
    return groups


class Moved(NamedTuple):
    r"""The state after a step of an independence sampler.

    Attributes:
        latents: the new trace of the guide.
        accepted: ones where the proposal was accepted, else zeros: ``rows``.
        log_joint: $\log p(x, z)$ of the new state, ``rows``, up to the log Z of energy-based sites.
        log_weights: $\log p(x, z) - \log q(z \mid x)$ of the proposal, accepted or not: ``rows``; also up to log Z.
    """

    latents: Any
    accepted: Tensor
    log_joint: Tensor
    log_weights: Tensor


def metropolis_step(model: Callable[..., Any], guide: Callable[..., Any], latents: Any, *args: Any) -> Moved:
    """Make one step of an independence sampler of every row's latents, proposed by the guide."""
    model = up_to_normalisers(model)
    old = poutine.trace(poutine.replay(guide, trace=latents)).get_trace(*args)
    new = poutine.trace(guide).get_trace(*args)
    joints, weights = [], []
    for trace in (new, old):
        replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace(*args)
        joints.append(per_datum(replayed, 1))
        weights.append(joints[-1] - per_datum(trace, 1))
    log_ratio = weights[0] - weights[1]
    accept = torch.rand_like(log_ratio).log() < log_ratio
    for name, site in sites(new):
        proposed: Any = site["value"]
        before: Any = old.nodes[name]["value"]
        shape = accept.shape + (1,) * (site["value"].dim() - accept.dim())
        site["value"] = torch.where(accept.view(shape), proposed, before)
        site.pop("unscaled_log_prob")
    return Moved(new, accept.to(log_ratio.dtype), torch.where(accept, joints[0], joints[1]), weights[0])
