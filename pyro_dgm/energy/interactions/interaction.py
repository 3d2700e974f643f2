"""The interface of a coupling between layers, which is multilinear in their sufficient statistics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ...checks import check_count, shown
from ..units import Unit

Statistics = Mapping[str, tuple[Tensor, ...]]


class End(NamedTuple):
    """One end of an interaction: a statistic of a layer."""

    layer: str
    statistic: int = 0


def end_of(end: str | tuple[str, int]) -> End:
    """An end of its layer's name, or of that and the number of a statistic.

    Raises:
        ValueError: something else.
    """
    parts = (end, 0) if isinstance(end, str) else end
    if not isinstance(parts, list | tuple) or len(parts) != 2 or not isinstance(parts[0], str):
        raise ValueError(
            f"an interaction got the end {shown(end)}; expected the name of a layer, or (layer, statistic)"
        )
    return End(parts[0], check_count(f"the statistic of the end at {parts[0]!r}", parts[1], 0))


class Interaction(ABC):
    """A term of -E that is linear in the statistics of each of its ends.

    ``field(end, ...)`` is the derivative of ``value`` by the statistic at that end, which is minus the derivative of
    the energy. A weight is ``batch_shape x weight_shape``; statistics are ``batch_shape x statistic shape``.
    """

    ends: tuple[End, ...]

    @abstractmethod
    def weight_shape(self, layers: Mapping[str, Unit]) -> torch.Size:
        """The shape of one weight tensor; raises ``ValueError`` where the layers do not fit."""

    @abstractmethod
    def check(self, weight: Tensor) -> str | None:
        """The reason why this weight is not allowed; None where it is."""

    @abstractmethod
    def field(
        self,
        end: int,
        statistics: Statistics,
        weight: Tensor,
        indices: Tensor | None = None,
        plus: Tensor | None = None,
    ) -> Tensor:
        """The field at one end, flat: ``batch_shape x entries``, or its columns ``indices`` alone.

        ``plus`` (a bias of that shape) is added, fused into the product where that is faster.
        """

    @abstractmethod
    def value(self, statistics: Statistics, weight: Tensor) -> Tensor:
        """The value of the term: ``batch_shape``."""

    @abstractmethod
    def centred_gradient(self, gradient: Tensor, biases: tuple[Tensor, ...], offsets: tuple[Tensor, ...]) -> Tensor:
        """The gradient by the weight where the biases hold the fields at the offsets fixed (20.37): less the derivative of
        these fields by the weight, times the gradients by the biases at its ends (all flat, without batch)."""

    @abstractmethod
    def pairs(self, layers: Mapping[str, Unit]) -> tuple[Tensor, Tensor] | None:
        """The coupled entries as two index vectors (first end, second end), or None where all pairs are coupled."""

    def beside(self, first: str, second: str) -> bool:
        """Whether every unit of one layer is coupled to the unit beside it in the other, and to no further one there."""
        return False
