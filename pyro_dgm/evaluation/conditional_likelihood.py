"""Figures of some columns of rows given the others, as in in-painting."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..checks import check_rows, shown
from ..data import Space, Split
from ..inference.registration import unregistered
from ..models.shared.arguments import rows_for
from ..models.shared.boltzmann import BoltzmannModel
from ..models.shared.partly_known import conditional_evidence
from ..nets.modes import evaluating
from .likelihood import LogLikelihood, figure_of


def conditional_log_likelihood(
    model: BoltzmannModel,
    x: Tensor | Split,
    known: Tensor,
    given: str,
    space: str | Space | None = None,
    method: str | None = None,
    **options: Any,
) -> LogLikelihood:
    r"""The mean of $\log p(x_a \mid x_b)$ over rows, in nats, of unknown bits given the known ones, under a Boltzmann machine.

    $\log p(x_a \mid x_b) = -F(x) - \log \sum_{x_a, h} e^{-E(x_a, x_b, h)}$: log Z of the machine cancels. The sum, a log Z for
    every row, is exact or lies between annealing both ways from the row's own mean field. Where F is replaced by its variational
    bound (20.35), as in deep machines, the figure is a lower bound. A difference of two bounds is nowhere taken.

    Autoregressive models have ``conditional_log_prob``.

    Args:
        model: a Boltzmann machine of visible bits.
        x: rows, or a ``Split``.
        known: booleans, of the shape of a row or of all rows.
        given: what is known, in words, as ``"the left half"``: figures that are given different things do not compare.
        space: the space of the rows.
        method: ``"exact"``, ``"ais"`` or ``"bridge"``; by default exact where the states of all rows can be listed.
        options: those of ``dgm.log_partition``, such as ``chains`` (a row) and ``temperatures``.

    Raises:
        ValueError: another model, visible units that are no bits, rows or booleans that do not fit.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> dgm.conditional_log_likelihood(rbm, x, torch.arange(x.shape[1]) < 2, "two bits").kind
        'exact'
    """
    if not isinstance(model, BoltzmannModel):
        raise ValueError(
            f"conditional_log_likelihood got {shown(type(model).__name__)}; expected a Boltzmann machine of visible bits. "
            "Autoregressive models have conditional_log_prob"
        )
    if isinstance(x, Split):
        space = x.space if space is None else space
        x = x.x
    x = rows_for(model, x, type(model).__name__)
    with evaluating(model), unregistered():
        model.check_data(x)
        check_rows(x, x.shape[1:], type(model).__name__)
        evidence = conditional_evidence(model, x, known, method, **options)
    return figure_of(evidence, model, x, space, "probability", given)
