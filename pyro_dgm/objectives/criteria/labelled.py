"""Training of models of rows and their classes: discriminatively, generatively, or both (section 20.8)."""

from __future__ import annotations

from typing import Any, Protocol

from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from ...checks import check_positive
from ...inference.registration import unregistered
from ..objective import Objective
from ..phases.objective import NegativePhaseObjective
from ..phases.phase import NegativePhase
from ..sparsity import Sparsity, WithHiddenUnits


class WithLabels(WithHiddenUnits, Protocol):
    """A model of rows and their classes."""

    model: nn.Module
    guide: nn.Module
    labels: nn.Module
    """The program of the site ``"label"`` alone, given the rows."""

    def observed(self, x: Tensor) -> dict[str, Tensor]:
        """The states that rows observe; ``"visible"`` and, where rows have them, ``"label"``."""
        ...

    def has_label(self, x: Tensor) -> Tensor:
        """Whether each row has a label."""
        ...


class Hybrid(Objective):
    r"""$-\big(\delta \log p(y \mid x) + \alpha \log p(x, y)\big)$ of rows with labels, $-\beta \log p(x)$ of rows without.

    With $\delta = 1, \alpha = 0$ it is discriminative, with $\delta = 0, \alpha = 1$ generative, else hybrid, and with
    $\beta > 0$ semi-supervised (Larochelle and Bengio 2008). Rows whose label is NaN have none. $\log p(y \mid x)$ is exact; the
    other terms have a negative phase. The gradient is that of the mean over all rows of a batch.

    Args:
        phase: the negative phase of p(x).
        discriminative: $\delta$.
        generative: $\alpha$; $\log p(x, y)$ is in nats a row, so that 0.01 weighs a picture like its label.
        unlabelled: $\beta$.
        sparsity: targets for how often hidden units are on, given rows with their labels where they have them.

    Raises:
        ValueError: weights that are negative, or all zero.

    Larochelle and Bengio (2008), "Classification using discriminative restricted Boltzmann machines".

    Example:
        >>> import pyro_dgm as dgm
        >>> machine, x = dgm.ClassRBM.example()
        >>> len(dgm.fit(machine, x, objective=dgm.Hybrid(dgm.CD()), epochs=2, progress=False).history)
        2
    """

    def __init__(
        self,
        phase: NegativePhase,
        discriminative: float = 1.0,
        generative: float = 0.01,
        unlabelled: float = 0.0,
        sparsity: Sparsity | None = None,
    ) -> None:
        weights = {"discriminative": discriminative, "generative": generative, "unlabelled": unlabelled}
        for name, weight in weights.items():
            check_positive(name, weight, "the weight of a term", zero=True)
        if not any(weights.values()):
            raise ValueError(
                "discriminative, generative and unlabelled are all 0; expected a positive weight among them"
            )
        self.discriminative, self.generative, self.unlabelled = (float(w) for w in weights.values())
        self.likelihood, self.sparsity = NegativePhaseObjective(phase), sparsity

    @property
    def phase(self) -> NegativePhase:
        """The negative phase of p(x)."""
        return self.likelihood.phase

    def options(self) -> dict[str, Any]:
        weights = {name: getattr(self, name) for name in ("discriminative", "generative", "unlabelled")}
        sparsity = {} if self.sparsity is None else self.sparsity.options()
        return {**self.likelihood.options(), **super().options(), **weights, **sparsity}

    def attach(self, model: WithLabels) -> None:
        self._model = model
        self.likelihood.attach(model)
        self._labels = Trace_ELBO(max_plate_nesting=1)(model.labels, model.guide)

    def loss(self, x: Tensor) -> Tensor:
        labelled = self._model.has_label(x)
        alone = self._model.observed(x[~labelled])["visible"]
        terms = []
        with unregistered():
            if self.discriminative and labelled.any():
                terms.append(self.discriminative * self._labels(x[labelled]))
            if self.generative and labelled.any():
                terms.append(self.generative * self.likelihood.loss(x[labelled]) * int(labelled.sum()))
            if self.unlabelled and len(alone):
                terms.append(self.unlabelled * self.likelihood.loss(alone) * len(alone))
            if self.sparsity is not None:
                parts = [rows for rows in (x[labelled], alone) if len(rows)]
                terms += [self.sparsity.term(self._model, rows) * len(rows) for rows in parts]
        if not terms:
            return sum((0 * p.sum() for p in self._model.model.parameters()), start=x.new_zeros(()))
        return sum(terms[1:], start=terms[0]) / len(x)

    def ill_with(self, optimiser: str) -> str | None:
        return self.likelihood.ill_with(optimiser)

    def schedule(self, share: float) -> None:
        self.likelihood.schedule(share)

    def scheduled(self) -> bool:
        return self.likelihood.scheduled()

    def state_dict(self) -> dict[str, Any]:
        return self.likelihood.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.likelihood.load_state_dict(state)
