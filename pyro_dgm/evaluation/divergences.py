"""The divergence of one model from another, in both directions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checks import check_count, described
from ..inference.registration import unregistered
from ..models.shared.evidence import Evidence
from ..models.shared.listed import bit_states
from ..models.shared.model import Model
from ..models.shared.rows import not_finite
from ..nets.modes import evaluating

LISTED = 14
"""The most bits whose states are listed."""

TOTAL = 1e-3
"""The most by which the probabilities of all states of bits miss the sum 1, through rounding."""


@dataclass(frozen=True)
class Divergence:
    """A Kullback-Leibler divergence in nats.

    Attributes:
        value: the divergence.
        stderr: its standard error, from samples and from estimates of log Z; 0 where it is a sum over all states.
        kind: ``"exact"``, ``"estimate"``, ``"lower bound"`` or ``"upper bound"``.
        method: how it was found, in words.
    """

    value: float
    stderr: float
    kind: str
    method: str

    def __str__(self) -> str:
        sign = {"lower bound": "≥ ", "upper bound": "≤ "}.get(self.kind, "")
        error = "exact" if self.kind == "exact" else f"± {self.stderr:.2g}"
        return f"{sign}{self.value:.4g} nats ({error}), {self.method}"


class Divergences(NamedTuple):
    r"""Both directions.

    Attributes:
        forward: $KL(p \| q)$, large where q gives too little to what p has.
        reverse: $KL(q \| p)$, large where q makes up what p has not.
    """

    forward: Divergence
    reverse: Divergence


def kl_divergences(p: Any, q: Any, n: int = 2000) -> Divergences:
    r"""$KL(p \| q) = E_p[\log p(x) - \log q(x)]$ and $KL(q \| p)$ of two models, or of a model and a distribution.

    Of models of a few bits with exact likelihoods all states are listed. Otherwise the means are over samples, which of an
    energy-based model are ends of chains. Where one log-likelihood is a lower bound, so are one direction (the other is an
    upper bound); the difference of two bounds bounds nothing and is refused.

    Args:
        p: a model, or a distribution of torch or Pyro over rows.
        q: the same.
        n: the number of samples from each.

    Raises:
        ValueError: neither models with a likelihood nor distributions, two bounds, a density and a probability, or rows that
            one of the two does not take.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, _ = dgm.RBM.example()
        >>> kl_divergences(rbm, rbm).forward.value
        0.0
    """
    check_count("n", n, 2)
    laws = [_Law(law, name) for name, law in (("p", p), ("q", q))]
    with unregistered(), torch.no_grad():
        drawn = [law.sample(n) for law in laws]
        if drawn[0].shape != drawn[1].shape:
            raise ValueError(
                f"p draws rows of shape {tuple(drawn[0].shape[1:])} and q of {tuple(drawn[1].shape[1:])}; expected one shape"
            )
        measures = {law.measure(rows[:1]) for law, rows in zip(laws, drawn, strict=True)}
        if len(measures) > 1:
            raise ValueError("one of p and q gives densities and the other probabilities: they have no divergence")
        listed = _listed(laws, drawn[0]) if measures == {"probability"} else None
        if listed is not None:
            return listed
        both = [
            _sampled(own, other, rows)
            for own, other, rows in ((laws[0], laws[1], drawn[0]), (laws[1], laws[0], drawn[1]))
        ]
    return Divergences(*both)


class _Law:
    """A model or a distribution, as something that draws rows and scores them."""

    def __init__(self, law: Any, name: str) -> None:
        if isinstance(law, Model):
            given = law.evidence_given()
            if "evidence" not in law.abilities() or given is not None or (reason := not_finite(law)):
                why = f"its figures are given {given}" if given is not None else "it has no likelihood"
                if given is None and "evidence" in law.abilities():
                    why = str(reason)
                raise ValueError(f"{name} got {type(law).__name__}, which has no divergence: {why}")
        elif not hasattr(law, "log_prob") or not hasattr(law, "sample"):
            raise ValueError(f"{name} got {described(law)}; expected a model of pyro_dgm, or a distribution")
        self.law, self.name = law, name

    def sample(self, n: int) -> Tensor:
        if isinstance(self.law, Model):
            with evaluating(self.law):
                return self.law.sample(n)
        rows: Tensor = self.law.sample((n,))
        return rows

    def measure(self, row: Tensor) -> str:
        if isinstance(self.law, Model):
            return self.law.measure(row.to(next(self.law.parameters(), row)))
        return "probability" if self.law.support.is_discrete else "density"

    def evidence(self, x: Tensor) -> Evidence:
        """The log-probabilities of rows, or bounds or estimates of them."""
        if not isinstance(self.law, Model):
            return Evidence.exact(self.law.log_prob(x), "formula")
        x = x.to(next(self.law.parameters(), x))
        with evaluating(self.law):
            try:
                self.law.check_data(x)
            except ValueError as error:
                raise ValueError(f"{self.name} does not take the rows of the other: {error}") from None
            return self.law.evidence(x)


def _listed(laws: list[_Law], like: Tensor) -> Divergences | None:
    """The divergences of laws of a few bits, by sums over all states; None of others."""
    columns = like[0].numel()
    if columns > LISTED or not bool(((like == 0) | (like == 1)).all()):
        return None
    states = bit_states(columns, like, LISTED, "bits", "").reshape(-1, *like.shape[1:])
    try:
        found = [law.evidence(states) for law in laws]
    except ValueError:
        return None
    logs = [evidence.values.double().cpu() for evidence in found]
    whole = all(abs(float(log.exp().sum()) - 1) < TOTAL for log in logs)
    if not whole or any(evidence.kind != "exact" for evidence in found):
        return None
    method = f"sum over {len(states)} states"
    return Divergences(
        *(Divergence(_expected(own, own - other), 0.0, "exact", method) for own, other in (logs, logs[::-1]))
    )


def _expected(logs: Tensor, values: Tensor) -> float:
    """The mean of values under log-probabilities, where those of probability zero have no share."""
    return float(torch.where(logs == -torch.inf, 0.0, logs.exp() * values).sum())


def _sampled(own: _Law, other: _Law, rows: Tensor) -> Divergence:
    """The divergence of a law from another, from rows of the first."""
    first, second = own.evidence(rows), other.evidence(rows)
    kind = _kind(first.kind, second.kind, own.name, other.name)
    differences = first.values.double().cpu() - second.values.double().cpu()
    stderr = math.sqrt(float(differences.var()) / len(rows) + first.stderr**2 + second.stderr**2)
    methods = dict.fromkeys((first.method, second.method))
    return Divergence(float(differences.mean()), stderr, kind, f"{len(rows)} samples, {', '.join(methods)}")


def _kind(first: str, second: str, name: str, other: str) -> str:
    """What the mean of a difference of log-likelihoods is, by what they are."""
    turned = {"lower bound": "upper bound", "upper bound": "lower bound"}.get(second, second)
    bounds = {kind for kind in (first, turned) if "bound" in kind}
    if len(bounds) > 1:
        raise ValueError(
            f"the log-likelihoods of {name} and {other} are both bounds, whose difference bounds nothing; compare both with data "
            "instead, or choose a model with an exact likelihood"
        )
    return bounds.pop() if bounds else "estimate"
