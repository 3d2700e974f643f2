"""Rebuilding rows while contracting the code (section 20.11)."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from ...checks import check_positive
from ...inference.registration import unregistered
from ..objective import Objective


class Contracting(Protocol):
    """An autoencoder whose encoder has a Jacobian that is known."""

    def rebuilding_cost(self, x: Tensor) -> Tensor:
        """What rebuilding every row costs."""
        ...

    def contraction(self, x: Tensor) -> Tensor:
        """The squared norm of the encoder's Jacobian at every row."""
        ...


class Contractive(Objective):
    r"""$L(x, g(f(x))) + \lambda \|\partial f / \partial x\|_F^2$, the mean over rows (20.11; Rifai et al. 2011).

    The cost L is the cross-entropy of columns in [0, 1], or half the squared error of real ones in units of their deviation,
    summed over columns.

    Args:
        weight: $\lambda$.

    Raises:
        ValueError: a negative weight.

    Example:
        >>> import pyro_dgm as dgm
        >>> autoencoder, x = dgm.ContractiveAutoencoder.example()
        >>> dgm.fit(autoencoder, x, objective=dgm.Contractive(weight=0.5), epochs=1, progress=False).epoch
        1
    """

    def __init__(self, weight: float = 0.1) -> None:
        check_positive("weight", weight, "the weight of the contraction", zero=True)
        self.weight = float(weight)

    def attach(self, model: Any) -> None:
        if not hasattr(model, "contraction"):
            raise ValueError(f"Contractive got {type(model).__name__}; expected dgm.ContractiveAutoencoder")
        self._model: Contracting = model

    def loss(self, x: Tensor) -> Tensor:
        with unregistered():
            return (self._model.rebuilding_cost(x) + self.weight * self._model.contraction(x)).mean()

    def options(self) -> dict[str, Any]:
        return {**super().options(), "weight": self.weight}
