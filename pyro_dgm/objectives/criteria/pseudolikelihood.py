"""The pseudolikelihood of a Boltzmann distribution."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...checks import check_count
from ...energy import BoltzmannDistribution
from ..objective import Objective
from .conditionals import (
    boltzmann,
    check_conditional,
    distribution_of,
    log_conditionals,
    observed,
    state_log_probabilities,
)


def pseudo_log_likelihood(dist: BoltzmannDistribution, x: Tensor, entries: int | None = 8) -> Tensor:
    r"""$\sum_i \log p(x_i \mid x_{-i})$ of visible units, in nats: one figure per row (18.20).

    No partition function is needed: for units with two states $\log p(x_i | x_{-i}) = -\mathrm{softplus}(F(x) - F(\tilde
    x_i))$ with the unit $i$ flipped in $\tilde x_i$; for Gaussian units above finite ones it is $-F(x)$ less the log of the
    integral of $e^{-F}$ over $x_i$, by the trapezoid rule. It is no bound of the log-likelihood, but it rises while training
    works.

    Args:
        dist: a Boltzmann distribution with binary, spin or Gaussian visibles.
        x: rows, ``n x event_shape``.
        entries: the number of units per row that are looked at (drawn at random, and scaled up without bias); ``None`` takes
            all.

    Raises:
        ValueError: the visible units are of another kind, or Gaussian ones are coupled by their squares or to real-valued
            hidden units.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> dgm.pseudo_log_likelihood(rbm(), x, entries=None).shape
        torch.Size([10])
    """
    log_p, scale = log_conditionals(dist, x, entries, "pseudo_log_likelihood")
    return scale * log_p.sum(-1)


class PseudoLikelihood(Objective):
    r"""$-\sum_i \log p(x_i \mid x_{-i})$, in nats per row (18.20; Besag 1975).

    For data of a machine of the family the minimum is that machine, and log Z is not needed. A step costs one free energy
    per unit with two states, some tens per Gaussian unit, and no chain. Labels of rows are units like others, with
    $\log p(y \mid x)$ for their term.

    Args:
        entries: the number of visible units per row that are looked at in a step (drawn at random, and scaled up without
            bias); ``None`` takes all.

    Raises:
        ValueError: ``entries`` below one; when a model is attached, visible units as ``pseudo_log_likelihood`` refuses them.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> run = dgm.fit(rbm, x, objective=dgm.PseudoLikelihood(), epochs=1, progress=False)
    """

    needs_whole_rows = "flips every unit given all others"

    def __init__(self, entries: int | None = None) -> None:
        self.entries = checked_entries(entries)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "entries": self.entries}

    def attach(self, model: Any) -> None:
        check_conditional(distribution_of(model, type(self).__name__), type(self).__name__)
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        dist = boltzmann(self._model(), type(self).__name__)
        x, others = observed(self._model, dist, x)
        given = dist.given(others) if others else dist
        log_p, scale = log_conditionals(given, x, self.entries, type(self).__name__)
        loss = -scale * log_p.sum(-1).mean()
        for layer in others:
            for _, own in state_log_probabilities(dist, x, others, layer):
                loss = loss - own.mean()
        return loss


def checked_entries(entries: Any) -> int | None:
    """A number of entries as criteria take it.

    Raises:
        ValueError: neither None nor a positive integer.
    """
    what = "None for all units, or the number per row that are looked at"
    return None if entries is None else check_count("entries", entries, what=what)
