"""A bound in closed form as an objective."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..objective import Objective


class FactorialBound(Objective):
    """Minus the model's closed-form ``bound``: a step of variational EM, with no sampling noise and no gradient through q."""

    def attach(self, model: Any) -> None:
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        return -self._model.bound(x).mean()
