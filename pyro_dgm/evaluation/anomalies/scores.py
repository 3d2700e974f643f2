"""Scores of rows under a model, high where a row is strange to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ...checks import check_choice
from ...columns import has_missing
from ...data import Split
from ...energy import EnergyDistribution, NotEnumerable
from ...inference.random_state import untouched
from ...inference.registration import unregistered
from ...models.shared.arguments import rows_for
from ...models.shared.model import Model
from ...models.shared.rows import ROWS_AT_ONCE, not_finite
from ...nets.modes import evaluating


class AnomalyScores(NamedTuple):
    """Scores of rows.

    Attributes:
        values: a number a row, in nats but for the error of reconstruction.
        by: the name of the score.
        text: what it is, in words.
    """

    values: Tensor
    by: str
    text: str


def anomaly_scores(model: Model, x: Tensor | Split, by: str | None = None, **options: Any) -> AnomalyScores:
    r"""Scores of rows under a model, high where a row is strange to it; ``rank`` tells how well they find anomalies.

    ``"free energy"``: F(x) of an energy-based model, which is $-\log p(x)$ but for a constant and takes no log Z.
    ``"likelihood"``: $-\log p(x)$, or the same of a bound or an estimate where the model has no more; ranks by a bound are
    legal, and the text says so. ``"reconstruction"``: the squared distance between a row and its reconstruction.

    Args:
        model: the model.
        x: rows, or a split.
        by: ``"free energy"``, ``"likelihood"`` or ``"reconstruction"``; by default the first of them that the model has, of rows
            with missing values the likelihood.
        options: for ``"likelihood"``, ``method`` and other options of ``dgm.log_likelihood``.

    Raises:
        ValueError: rows that do not fit, a score that the model does not have, or scores that are not finite.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> anomaly_scores(rbm, x).by
        'free energy'
    """
    if not isinstance(model, Model):
        raise ValueError(f"anomaly_scores got {type(model).__name__}; expected a model of pyro_dgm")
    rows = rows_for(model, x.x if isinstance(x, Split) else x)
    if by is not None:
        check_choice("by", by, SCORES)
    name = type(model).__name__
    if reason := not_finite(model):
        raise ValueError(f"{name} has no scores: {reason}")
    chosen = by or _first(model, rows)
    if options and chosen != "likelihood":
        raise ValueError(f"options {sorted(options)} are for by='likelihood', and rows are scored by {chosen!r}")
    with evaluating(model), unregistered(), torch.no_grad():
        model.check_data(rows)
        if chosen != "likelihood" and has_missing(rows):
            first = int(rows.isnan().flatten(1).any(1).nonzero()[0])
            raise ValueError(
                f"row {first} has missing values (NaN), and by={chosen!r} scores complete rows; choose 'likelihood', that of the "
                "known values, or impute the others"
            )
        values, text = SCORES[chosen](model, rows, **options)
    values = values.detach().double().cpu()
    if not bool(values.isfinite().all()):
        raise ValueError(f"row {int((~values.isfinite()).nonzero()[0])} got the score {values.min():g} under {name}")
    return AnomalyScores(values, chosen, text)


def _first(model: Model, rows: Tensor) -> str:
    """The first score that the model has of such rows."""
    if has_missing(rows) and "evidence" in model.abilities():
        return "likelihood"
    if _energy_of(model, rows[:1]) is not None:
        return "free energy"
    for ability, score in (("evidence", "likelihood"), ("reconstruct", "reconstruction")):
        if ability in model.abilities():
            return score
    raise ValueError(
        f"{type(model).__name__} scores no rows: it has neither a likelihood nor reconstructions. Rank rows by a score of your "
        "own with dgm.evaluation.rank"
    )


def _energy_of(model: Model, row: Tensor) -> EnergyDistribution | None:
    """The law of whole rows, if it has a free energy; None where there is none, or where parts of a row are given."""
    if not hasattr(model, "model") or model.evidence_given() is not None:
        return None
    with untouched(), evaluating(model), torch.no_grad():
        try:
            trace = poutine.trace(model.model).get_trace(row)
        except ValueError:  # the likelihood, which is asked for next, says so in its own words
            return None
        sites = [site for site in trace.nodes.values() if site["type"] == "sample" and not site_is_subsample(site)]
        fn: Any = trace.nodes["x"]["fn"] if "x" in trace.nodes else None
        if len(sites) != 1 or not isinstance(fn, EnergyDistribution) or fn.event_shape != row.shape[1:]:
            return None
        try:
            fn.free_energy(row)
        except NotEnumerable:
            return None
    return fn


def _free_energies(model: Model, x: Tensor) -> tuple[Tensor, str]:
    dist = _energy_of(model, x[:1])
    if dist is None:
        raise ValueError(
            f"{type(model).__name__} has no free energy of whole rows that can be summed; choose by='likelihood'"
        )
    values = torch.cat([dist.free_energy(rows) for rows in x.split(ROWS_AT_ONCE)])
    return values, "free energy, which is -log p(x) but for a constant"


def _surprise(model: Model, x: Tensor, method: str | None = None, **options: Any) -> tuple[Tensor, str]:
    found = model.evidence(x, method, **options)
    given = model.evidence_given()
    what = {"exact": "log p(x)", "estimate": "log p(x), an estimate"}.get(found.kind, f"a {found.kind} of log p(x)")
    return -found.values, f"minus {what} ({found.method}{f', given {given}' if given else ''})"


def _errors(model: Model, x: Tensor) -> tuple[Tensor, str]:
    parts = [(model.reconstruct(rows) - rows).square().flatten(1).sum(1) for rows in x.split(ROWS_AT_ONCE)]
    return torch.cat(parts), "squared error of the reconstruction"


SCORES: dict[str, Callable[..., tuple[Tensor, str]]] = {
    "free energy": _free_energies,
    "likelihood": _surprise,
    "reconstruction": _errors,
}
"""Scores by name, in the order in which they are chosen."""
