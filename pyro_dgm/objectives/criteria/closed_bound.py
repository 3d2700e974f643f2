"""The objective of models with a bound in closed form."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..objective import Objective


class FactorialBound(Objective):
    """Minus the model's closed-form ``bound``: a step of variational EM, without sampling noise or a gradient through q."""

    def attach(self, model: Any) -> None:
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        return -self._model.bound(x).mean()
