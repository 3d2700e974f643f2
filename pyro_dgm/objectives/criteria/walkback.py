"""Rebuilding rows from corrupted ones, after one step of a chain or several (sections 20.11.3 and 20.12)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ...checks import check_choice, check_count, check_positive, check_share
from ...inference.registration import unregistered
from ..objective import Objective

Costs = Literal["all", "last"]


class Rebuilding(Protocol):
    """A model that corrupts rows and rebuilds them."""

    def observed(self, x: Tensor) -> dict[str, Tensor]:
        """The layers that rows hold."""
        ...

    def opening(self, x: Tensor) -> dict[str, Tensor]:
        """The chains' first state at given visible columns."""
        ...

    def rebuild(
        self, state: dict[str, Tensor], clean: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Hidden units with their gradient, and the laws of the layers that rows hold."""
        ...

    def draw(self, layer: str, law: Any, held: tuple[Tensor, Tensor] | None) -> Tensor:
        """A draw of a layer, with known entries put back."""
        ...


class RebuildingObjective(Objective):
    """The base of criteria that let a chain walk away from a row and ask every step for the row.

    Args:
        steps: the steps of the chain.
        costs: ``"all"`` averages the costs of all steps, ``"last"`` takes that of the last one.
        geometric: draw the number of steps of every batch from a geometric law of mean ``steps``.

    Raises:
        ValueError: no step, or unknown costs.
    """

    def __init__(self, steps: int, costs: Costs, geometric: bool) -> None:
        self.steps = check_count("steps", steps, what="the steps of the chain")
        check_choice("costs", costs, ("all", "last"))
        self.costs, self.geometric = costs, bool(geometric)

    def attach(self, model: Any) -> None:
        if not hasattr(model, "rebuild"):
            raise ValueError(
                f"{type(self).__name__} got {type(model).__name__}; expected a model that corrupts rows and rebuilds them, such "
                "as dgm.DenoisingAutoencoder or dgm.GSN"
            )
        self._model: Rebuilding = model

    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """The weights of the layers' costs, 1 where nothing is said; a layer of weight 0 stays where it starts."""

    def known(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Booleans of entries, by layer, that are held at the data and not corrupted; by default none."""
        return {}

    def loss(self, x: Tensor) -> Tensor:
        with unregistered():
            model, rows, weights = self._model, self._model.observed(x), self.weights()
            state, costs = model.opening(rows["visible"]), []
            known = self.known(rows)
            state |= _held(known, rows, state)
            for _ in range(steps := self._length()):
                hidden, laws = model.rebuild(state, known or None)
                charged = {layer: law for layer, law in laws.items() if weights.get(layer, 1.0)}
                terms = {layer: weights.get(layer, 1.0) * law.log_prob(rows[layer]) for layer, law in charged.items()}
                # A row's layer that is held as a whole is not asked for.
                terms |= {layer: terms[layer] * ~mask.all(-1) for layer, mask in known.items() if layer in terms}
                costs.append(-sum(terms.values()))
                state = state | hidden
                if len(costs) < steps:
                    with torch.no_grad():
                        state |= {layer: model.draw(layer, law, None) for layer, law in charged.items()}
                    state |= _held(known, rows, state)
            return costs[-1].mean() if self.costs == "last" else torch.stack(costs).mean()

    def _length(self) -> int:
        if not self.geometric or self.steps == 1:
            return self.steps
        return int(torch.empty(()).geometric_(1 / self.steps))

    def options(self) -> dict[str, Any]:
        return {**super().options(), "steps": self.steps, "costs": self.costs, "geometric": self.geometric}


def _held(known: Mapping[str, Tensor], rows: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layers that have known entries, with these at the data."""
    return {layer: torch.where(mask, rows[layer], state[layer]) for layer, mask in known.items()}


class Denoising(RebuildingObjective):
    r"""$-E_{C(\tilde x \mid x)} \log P(x \mid \tilde x)$ of rows corrupted by the model's own noise (20.11).

    With more ``steps`` the chain walks on from its own draws, and every step is to give the row back (walkback, section
    20.11.3): spurious modes near the data are then visited in training and unlearned. No gradient goes through draws.

    Args:
        steps: the steps of the chain; 1 is plain denoising.
        costs: ``"all"`` averages the costs of all steps, ``"last"`` takes that of the last one.
        geometric: draw the number of steps of every batch from a geometric law of mean ``steps``.

    Raises:
        ValueError: no step, or unknown costs.

    Source: Bengio, Yao, Alain and Vincent (2013).

    Example:
        >>> import pyro_dgm as dgm
        >>> autoencoder, x = dgm.DenoisingAutoencoder.example()
        >>> run = dgm.fit(autoencoder, x, objective=dgm.Denoising(steps=3), epochs=1, progress=False)
        >>> "valid_log_rebuilt" in run.history[0]
        True
    """

    def __init__(self, steps: int = 1, costs: Costs = "all", geometric: bool = False) -> None:
        super().__init__(steps, costs, geometric)

    def weights(self) -> Mapping[str, float]:
        return {}

    def known(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """For a model that takes masks, in half of the rows a random share of the entries."""
        if not getattr(self._model, "masks", False):
            return {}
        x = rows["visible"]
        share = torch.rand(len(x), 1, device=x.device) * (torch.rand(len(x), 1, device=x.device) < 0.5)
        return {"visible": self._model.columns.whole(torch.rand_like(x) < share)}  # type: ignore[attr-defined]


class Walkback(RebuildingObjective):
    r"""$-\frac1K \sum_{k=1}^K \log p(x^{(k)} = x \mid h^{(k)})$ over a chain from the row, with hidden units from zero (20.12).

    The gradient goes through hidden units, whose noise is reparameterised, and not through drawn rows. Weights of the visible
    columns and of the label make it generative, discriminative (the rows are then held, and only the label is asked for) or a
    hybrid.

    Args:
        steps: the number of steps of the chain, K.
        visible: the weight of the visible columns; with 0 they are held at the data.
        label: the weight of the label, where there is one; with 0 the chain has none, and its law is not trained.
        given: the share of rows whose label is held from the start, so that the chain learns to draw rows of a class; in the
            others it starts from zero.
        costs: ``"all"`` averages the costs of all steps, ``"last"`` takes that of the last one.
        geometric: draw K for every batch from a geometric law of mean ``steps``.

    Raises:
        ValueError: no step, a negative weight, no weight at all, a share outside [0, 1), or unknown costs.

    Source: Bengio, Thibodeau-Laufer, Alain and Yosinski (2014); Zhou and Troyanskaya (2014).

    Example:
        >>> import pyro_dgm as dgm
        >>> gsn, x = dgm.GSN.example()
        >>> dgm.fit(gsn, x, objective=dgm.Walkback(steps=2), epochs=1, progress=False).epoch
        1
    """

    def __init__(
        self,
        steps: int = 4,
        visible: float = 1.0,
        label: float = 1.0,
        given: float = 0.0,
        costs: Costs = "all",
        geometric: bool = False,
    ) -> None:
        super().__init__(steps, costs, geometric)
        for name, weight in (("visible", visible), ("label", label)):
            check_positive(name, weight, "the weight of a layer", zero=True)
        if not visible and not label:
            raise ValueError("visible and label got the weight 0; expected one above it")
        check_share("given", given, "the share of rows whose label is held", zero=True)
        self.visible, self.label, self.given = float(visible), float(label), float(given)

    def attach(self, model: Any) -> None:
        super().attach(model)
        if not self.visible and not getattr(model, "classes", 0):
            raise ValueError("visible got the weight 0 for a model without classes, which leaves nothing to train on")
        if self.given and not getattr(model, "classes", 0):
            raise ValueError(f"given got {self.given} for a model without classes, whose rows have no label to hold")

    def weights(self) -> Mapping[str, float]:
        return {"visible": self.visible, "label": self.label}

    def options(self) -> dict[str, Any]:
        return {**super().options(), "visible": self.visible, "label": self.label, "given": self.given}

    def known(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The labels of a share of the rows."""
        if not self.given or "label" not in rows:
            return {}
        held = torch.rand(len(rows["label"]), 1, device=rows["label"].device) < self.given
        return {"label": held.expand(rows["label"].shape)}
