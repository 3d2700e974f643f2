"""The terms of the ELBO that depend on a latent of the guide, and learning signals without the other terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.ops.provenance import get_provenance, track_provenance
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ...inference.importance import particle_plate, per_datum
from ...inference.random_state import untouched
from ...inference.sites import is_scored, sites
from .per_datum import Program
from .run import Run

Terms = dict[tuple[str, str], set[str]]
"""From a term, ``("model" or "guide", site)``, to the sites of the guide whose values enter it."""


class Dependencies:
    r"""Local learning signals of any model and guide (Mnih and Gregor 2014; Schulman et al. 2015).

    A term of $J = \sum \log p - \sum \log q$ can be left out of the signal of site s if it depends neither on s nor on a
    site that depends on s: given everything that the term depends on, the score of s has mean zero. The dependencies of
    every term are found in two ways and joined: by the provenance that Pyro tracks through all operations of torch (which
    misses dependencies through other libraries), and by putting other draws into a site and comparing the terms (which
    misses dependencies through weights that are still zero). They are found once per set of site names, so programs whose
    dependencies change between steps must change these names as well.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], Terms] = {}

    def signals(
        self, model: Program, guide: Program, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The part of J and the score of every scored site of the guide: each ``particles x rows``.

        For a guide without scored sites they are J and a score of zero.
        """
        terms = self.terms(model, guide, run, args, kwargs)
        rewards, scores = [], []
        shape = run.figures().log_p.shape
        for name, site in sites(run.guide_trace):
            if not is_scored(site):
                continue
            moved = _downstream(terms, name)
            kept = {term for term, parents in terms.items() if parents & moved}
            total = torch.zeros((), device=site["value"].device)
            for sign, which, trace in ((1, "model", run.model_trace), (-1, "guide", run.guide_trace)):
                names = {other for program, other in kept if program == which}
                if names:
                    total = total + sign * per_datum(trace, run.nesting, _among(names))
            rewards.append(total.expand(shape))
            with torch.enable_grad():
                scores.append(per_datum(run.guide_trace, run.nesting, _among({name})).expand(shape))
        if not scores:
            figures = run.figures()
            return [figures.log_weights], [figures.score]
        return rewards, scores

    def terms(self, model: Program, guide: Program, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Terms:
        """The sites of the guide that every term depends on directly."""
        names = (
            *(f"model {name}" for name, _ in sites(run.model_trace)),
            *(f"guide {name}" for name, _ in sites(run.guide_trace)),
        )
        if names not in self._found:
            with torch.no_grad():
                self._found[names] = _tracked(model, guide, run, args, kwargs)
                _join(self._found[names], _perturbed(model, guide, run, args, kwargs))
        return self._found[names]


def _among(names: set[str]) -> Callable[[Any], bool]:
    return lambda site: site["name"] in names


def _downstream(terms: Terms, name: str) -> set[str]:
    """A site of the guide, and the sites of the guide that depend on it, directly or indirectly."""
    moved = {name}
    while True:
        grown = {site for (program, site), parents in terms.items() if program == "guide" and parents & moved} | moved
        if grown == moved:
            return moved
        moved = grown


def _log_probs(
    model: Program, guide: Program, run: Run, values: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[tuple[str, str], Any]:
    """The log-probabilities of all sites at the guide's values, on the rows of the run."""
    log_probs = {}
    plates = {name: site["value"] for name, site in run.guide_trace.nodes.items() if site_is_subsample(site)}
    for which, program in (("model", model), ("guide", guide)):
        with particle_plate(run.particles, run.nesting):
            trace = poutine.trace(poutine.condition(program, data={**plates, **values})).get_trace(*args, **kwargs)
        for name, site in sites(trace):
            log_probs[which, name] = site["fn"].log_prob(site["value"])
    return log_probs


def _drawn(guide_trace: Any) -> dict[str, Any]:
    return {name: site["value"] for name, site in sites(guide_trace) if not site["is_observed"]}


def _tracked(model: Program, guide: Program, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Terms:
    """For every term the sites whose provenance Pyro finds in it."""
    marked = {name: track_provenance(value, frozenset({name})) for name, value in _drawn(run.guide_trace).items()}
    log_probs = _log_probs(model, guide, run, marked, args, kwargs)
    return {term: set(get_provenance(value)) for term, value in log_probs.items()}


def _perturbed(model: Program, guide: Program, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Terms:
    """For every term the sites whose draws change it when they are replaced by those of a second run of the guide."""
    with untouched(), particle_plate(run.particles, run.nesting):
        other = _drawn(poutine.trace(guide).get_trace(*args, **kwargs))
    values = _drawn(run.guide_trace)
    before = _log_probs(model, guide, run, values, args, kwargs)
    changed: Terms = {term: set() for term in before}
    for name in values:
        after = _log_probs(model, guide, run, {**values, name: other[name]}, args, kwargs)
        for term in before:
            if not torch.equal(before[term], after[term]):
                changed[term].add(name)
    return changed


def _join(terms: Terms, others: Terms) -> None:
    for term, parents in others.items():
        terms.setdefault(term, set()).update(parents)
