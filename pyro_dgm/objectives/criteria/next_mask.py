"""Training of models that average several orders, with one of them per batch (section 20.10.10)."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from ..objective import Objective


class SeveralMasks(Protocol):
    """A model that has a distribution for every mask."""

    def log_prob_under(self, number: int, x: Tensor) -> Tensor:
        """Log-likelihoods of rows under one of the masks, in nats; the number is taken modulo that of the masks."""
        ...


class NextMask(Objective):
    r"""Minus the log-likelihood under one of a model's masks, the next one in every batch (Germain et al. 2015).

    All masks share their weights. The loss's mean over the masks is
    $-\frac1K \sum_k \log p(x \mid o_k) \ge -\log \frac1K \sum_k p(x \mid o_k)$: an upper bound on minus the
    log-likelihood of the mixture (20.84), at the cost of one member.

    Attributes:
        turn: the number of batches so far.

    Example:
        >>> import pyro_dgm as dgm
        >>> made, x = dgm.MADE.example()
        >>> len(dgm.fit(made, x, objective=dgm.NextMask(), epochs=1, progress=False).history)
        1
    """

    def __init__(self) -> None:
        self.turn = 0

    def attach(self, model: SeveralMasks) -> None:
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        self.turn += 1
        return -self._model.log_prob_under(self.turn - 1, x).mean()

    def state_dict(self) -> dict[str, Any]:
        return {"turn": self.turn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.turn = state["turn"]
