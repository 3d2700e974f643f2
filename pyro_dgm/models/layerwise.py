"""What deep machines that are pretrained layer by layer have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from ..energy import Binary, BoltzmannDistribution, Dense, Graph
from .boltzmann import BoltzmannModel

Stage = tuple[BoltzmannModel, Callable[[Tensor], Tensor]]
"""A machine to train, and what turns data rows into the probabilities of its visible bits."""


@runtime_checkable
class Layerwise(Protocol):
    """A model with a greedy layer-wise pretraining (20.21; 20.4.4)."""

    fresh: bool

    def stages(self) -> Iterator[Stage]:
        """The machines to train, from the lowest; each is adopted when the next one is asked for."""
        ...

    def check_data(self, x: Tensor) -> None:
        """Refuse rows that are no data for this model."""
        ...


class _Repeated(BoltzmannModel):
    r"""A binary RBM whose visible or hidden units come in tied copies, as pretraining a deep machine needs (20.4.4).

    With two visible copies $P(h = 1 \mid v) = \sigma(c + 2 v^\top W)$ and $P(v = 1 \mid h) = \sigma(b + W h)$: the second copy
    stands for the layer above, which will bring the other half of the field.
    """

    def __init__(self, visible: int, hidden: int, copies: tuple[int, int] = (1, 1), scale: float = 1.0) -> None:
        super().__init__()
        self.visible, self.hidden, self.copies, self.scale = visible, hidden, tuple(copies), scale
        below, above = visible * copies[0], hidden * copies[1]
        self._graph = Graph({"visible": Binary(below), "hidden": Binary(above)}, [Dense("visible", "hidden")])
        self.weight = nn.Parameter(0.01 * torch.randn(visible, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))

    def forward(self) -> BoltzmannDistribution:
        below, above = self.copies
        biases = {"visible": (self.visible_bias.repeat(below),), "hidden": (self.hidden_bias.repeat(above),)}
        return BoltzmannDistribution(self._graph, biases, (self.scale * self.weight.repeat(below, above),))

    def initialise(self, x: Tensor) -> None:
        with torch.no_grad():
            mean = x.mean(0).unflatten(0, (self.copies[0], self.visible)).mean(0)
            self.visible_bias.copy_(torch.logit(mean, eps=1e-3))

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": self.hidden, "copies": self.copies, "scale": self.scale}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return cls(3, 2, (2, 1)), torch.randint(0, 2, (5, 3)).float().repeat(1, 2)
