"""The pseudolikelihood of a Boltzmann distribution, and the base of criteria that flip single units."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...checks import check_count
from ...energy import BoltzmannDistribution, EnergyDistribution
from ..objective import Objective

_ROWS = 8192
"""The most flipped rows that go through the free energy at once."""


def pseudo_log_likelihood(dist: BoltzmannDistribution, x: Tensor, entries: int | None = 8) -> Tensor:
    r"""$\sum_i \log p(x_i \mid x_{-i})$ of two-state visible units, in nats: one figure per row (18.20).

    No partition function is needed: $\log p(x_i | x_{-i}) = -\mathrm{softplus}(F(x) - F(\tilde x_i))$ with the unit
    $i$ flipped in $\tilde x_i$. It is no bound of the log-likelihood, but it rises while training works.

    Args:
        dist: a Boltzmann distribution with binary or spin visibles.
        x: rows, ``n x event_shape``.
        entries: the number of units per row that are flipped (drawn at random, and scaled up without bias); ``None`` flips
            all.

    Raises:
        ValueError: the visible units do not have two states.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> dgm.pseudo_log_likelihood(rbm(), x, entries=None).shape
        torch.Size([10])
    """
    log_odds, scale = flips(dist, x, entries, "pseudo_log_likelihood")
    return scale * F.logsigmoid(log_odds).sum(-1)


def flips(dist: BoltzmannDistribution, x: Tensor, entries: int | None, name: str) -> tuple[Tensor, float]:
    r"""$\log p(x) / p(\tilde x_i) = F(\tilde x_i) - F(x)$ for every row and flipped unit i, and the scale of their sum.

    Args:
        dist: a Boltzmann distribution with two-state visibles.
        x: rows, ``n x event_shape``.
        entries: the number of units per row that are flipped, drawn at random without replacement; ``None`` flips all.
        name: the name of the caller, for the message.

    Returns:
        The log odds, ``n x entries``, and the number of units that each entry stands for, ``units / entries``.

    Raises:
        ValueError: the visible units do not have two states.
    """
    unit = check_two_states(dist, name)
    low, high = unit.atom_states(x)
    rows = x.flatten(1)
    n, size = rows.shape
    if entries is None or entries >= size:
        columns, scale = torch.arange(size, device=x.device).expand(n, size), 1.0
    else:
        columns, scale = torch.rand(n, size, device=x.device).topk(entries, dim=1).indices, size / entries
    free_energies = []
    for chunk in columns.split(max(_ROWS // n, 1), dim=1):
        copies = rows.unsqueeze(1).expand(n, chunk.shape[1], size)
        index = chunk.unsqueeze(-1)
        flipped = copies.scatter(-1, index, low + high - copies.gather(-1, index)).unflatten(-1, unit.shape)
        # With a context every row has its own machine, so the flips must lie in front of the rows; else all are one batch.
        by_row = bool(dist.parameter_batch_shape)
        free_energy = dist.free_energy(flipped.transpose(0, 1) if by_row else flipped.flatten(0, 1))
        free_energies.append(free_energy.mT if by_row else free_energy.unflatten(0, (n, chunk.shape[1])))
    return torch.cat(free_energies, 1) - dist.free_energy(x).unsqueeze(-1), scale


def check_two_states(dist: EnergyDistribution, name: str) -> Any:
    """The visible unit, if its atoms are numbers with two values.

    Raises:
        ValueError: the distribution is no Boltzmann distribution, or its visible units do not have two states.
    """
    if not isinstance(dist, BoltzmannDistribution):
        raise ValueError(f"{name} got a {type(dist).__name__}; expected a Boltzmann distribution, as rbm() returns it")
    unit = dist.machine.graph.layers[dist.visible]
    if unit.states_per_atom != 2 or unit.inner_dim:
        raise ValueError(
            f"{name} got visible units {unit}; expected units with two states (Binary or Spin), since it flips them one "
            "by one"
        )
    return unit


def distribution_of(model: Any, name: str) -> EnergyDistribution:
    """The energy distribution that a model returns when called without a context.

    Raises:
        ValueError: it returns none.
    """
    try:
        dist = model()
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"{name} trains models whose call returns an energy distribution; {type(model).__name__} has none: {error}"
        ) from None
    if not isinstance(dist, EnergyDistribution):
        raise ValueError(
            f"{name} trains models whose call returns an energy distribution; {type(model).__name__} returns "
            f"{type(dist).__name__}"
        )
    return dist


class FlipObjective(Objective):
    """The base of criteria that sum a function of $\\log p(x) / p(\\tilde x_i)$ over visible units, without log Z."""

    def __init__(self, entries: int | None = None) -> None:
        what = "None for all units, or the number per row that are flipped"
        self.entries = None if entries is None else check_count("entries", entries, what=what)

    @abstractmethod
    def term(self, log_odds: Tensor) -> Tensor:
        """The loss of one unit, elementwise."""

    def options(self) -> dict[str, Any]:
        return {**super().options(), "entries": self.entries}

    def attach(self, model: Any) -> None:
        check_two_states(distribution_of(model, type(self).__name__), type(self).__name__)
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        log_odds, scale = flips(self._model(), x, self.entries, type(self).__name__)
        return scale * self.term(log_odds).sum(-1).mean()


class PseudoLikelihood(FlipObjective):
    r"""$-\sum_i \log p(x_i \mid x_{-i})$, in nats per row (18.20; Besag 1975).

    For data of a machine of the family the minimum is that machine, and log Z is not needed. A step costs one free energy
    per flipped unit, and no chain.

    Args:
        entries: the number of units per row that are flipped in a step (drawn at random, and scaled up without bias);
            ``None`` flips all.

    Raises:
        ValueError: ``entries`` below one; when a model is attached, visible units that do not have two states.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> run = dgm.fit(rbm, x, objective=dgm.PseudoLikelihood(), epochs=1, progress=False)
    """

    def term(self, log_odds: Tensor) -> Tensor:
        return F.softplus(-log_odds)
