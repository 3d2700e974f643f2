"""Pyro's ELBOs step after step, by light runs of plain programs."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import kl_divergence

from ..distributions.sums import log_probs, summed_divergence, summed_log_prob
from ..inference.light import LightRuns, LightTrace
from ..inference.sites import FAILURES

_Term = Callable[[Any, Any], Tensor]
"""From a latent's sites in model and guide to what it adds to the loss."""


class ElboSteps:
    """The losses of an ELBO, one call a step.

    Where the ELBO is one of Pyro's with one draw, latents are reparameterised and the programs are plain (``inference.light``),
    a step makes no trace: loss and gradients are those of Pyro's estimator at the same draws, to rounding. Everything else,
    and a step without a finite loss, goes by Pyro, with its checks and messages.

    Args:
        elbo: the estimator.
        model: the program.
        guide: its guide.
        validates: whether every step validates the distributions' parameters and values, and not the first one alone.

    Attributes:
        plain: whether the estimator is one of Pyro's with one draw, which sums the sites' terms.
    """

    def __init__(self, elbo: ELBO, model: Any, guide: Any, validates: bool = False) -> None:
        self._module: Any = elbo(model, guide)
        self._programs, self._runs = (model, guide), LightRuns(validates)
        one_draw = elbo.num_particles == 1 and not elbo.vectorize_particles
        self._term = _TERMS.get(type(elbo)) if one_draw else None
        self.plain = self._term is not None

    def __call__(self, x: Tensor, latent_weight: float = 1.0) -> Tensor:
        """The sum of the rows' losses.

        Args:
            x: rows.
            latent_weight: the factor of the latents' log-probabilities, in model and guide.
        """
        loss = self.light((x,), {}, latent_weight)
        if loss is not None:
            return loss
        with nullcontext() if latent_weight == 1 else _LatentWeight(latent_weight):
            by_pyro: Tensor = self._module(x)
        return by_pyro

    def light(self, args: tuple[Any, ...], kwargs: dict[str, Any], latent_weight: float = 1.0) -> Tensor | None:
        """The loss of the programs at these arguments by light runs; None, with the random state as before, where Pyro must."""
        if self._term is None:
            return None
        pair = self._runs.traces(*self._programs, args, kwargs, accept=self._has_terms)
        if pair is None:
            return None
        with suppress(*FAILURES):  # which Pyro then reports
            loss = self._loss(*pair, self._term, latent_weight)
            if loss is not None and math.isfinite(loss.detach().item()):
                return loss
        self._runs.undo()
        return None

    def _has_terms(self, model: LightTrace, guide: LightTrace) -> bool:
        """Whether latents are reparameterised; and in the same order, else Pyro warns where divergences are in closed form."""
        ordered = self._term is _sampled or [name for name in model.nodes if name in guide.nodes] == list(guide.nodes)
        return ordered and all(site["fn"].has_rsample for site in guide.nodes.values())

    @staticmethod
    def _loss(model: LightTrace, guide: LightTrace, term: _Term, latent_weight: float) -> Tensor | None:
        """The sum of the sites' terms; None where no site has one."""
        latents = [term(model.nodes[name], site) for name, site in guide.nodes.items()]
        if latents and latent_weight != 1:
            latents = [latent_weight * sum(latents[1:], latents[0])]
        observed = [_summed(site) for site in model.nodes.values() if site["is_observed"]]
        if not latents:
            return -sum(observed[1:], observed[0]) if observed else None
        return functools.reduce(operator.sub, observed, sum(latents[1:], latents[0]))


def _sampled(site: Any, of_guide: Any) -> Tensor:
    """log q - log p of a latent at its draw."""
    return _summed(of_guide) - _summed(site)


def _in_closed_form(site: Any, of_guide: Any) -> Tensor:
    """The divergence of a latent's laws where it has a closed form."""
    try:
        if _is_plain(of_guide) or (_is_unscaled(of_guide) and isinstance(of_guide["mask"], Tensor)):
            return summed_divergence(of_guide["fn"], site["fn"], of_guide["mask"])
        return _scaled(kl_divergence(of_guide["fn"], site["fn"]), of_guide)
    except NotImplementedError:
        return _sampled(site, of_guide)


_TERMS: dict[type[ELBO], _Term] = {Trace_ELBO: _sampled, TraceMeanField_ELBO: _in_closed_form}
"""The terms of latents by the estimator."""


def _summed(site: Any) -> Tensor:
    """The log-probability of a site's value, summed over the rows."""
    if _is_plain(site):
        return summed_log_prob(site["fn"], site["value"])
    return _scaled(log_probs(site["fn"], site["value"]), site)


def _is_plain(site: Any) -> bool:
    """Whether a site has neither a mask nor a scale."""
    return site["mask"] is None and _is_unscaled(site)


def _is_unscaled(site: Any) -> bool:
    return isinstance(site["scale"], float) and site["scale"] == 1.0


def _scaled(terms: Tensor, site: Any) -> Tensor:
    total: Tensor = scale_and_mask(terms, scale=site["scale"], mask=site["mask"]).sum()
    return total


class _LatentWeight(Messenger):
    """Multiplies the scale of latent sites, which Pyro's estimators put before their log-probabilities."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.weight
