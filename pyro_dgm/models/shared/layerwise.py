"""The interface of deep models that are pretrained layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from .boltzmann import BoltzmannModel

Stage = tuple[BoltzmannModel, Callable[[Tensor], Tensor]]
"""A machine to train, and the function from data rows to the probabilities of its visible bits."""


@runtime_checkable
class Layerwise(Protocol):
    """A model with a greedy layer-wise pretraining (20.21; 20.4.4)."""

    fresh: bool
    hidden: tuple[int, ...]

    def stages(self, **options: Any) -> Iterator[Stage]:
        """Yield the machines to train, from the lowest; the model takes over the weights of each when the next is asked for."""
        ...

    def check_data(self, x: Tensor) -> None:
        """Refuse rows that this model cannot be trained on."""
        ...
