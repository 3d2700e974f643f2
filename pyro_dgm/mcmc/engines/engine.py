"""The interface of engines, which move the chains of a run, and the engine that calls the kernel for every sweep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from pyro.ops.streaming import StreamingStats
from torch import Tensor

from ...energy import State
from ..kernel import ChainsKernel


class Collected(NamedTuple):
    """The result of a run of some draws.

    Attributes:
        params: the chains' state.
        kept: the layers asked for, or the scalars if moments are taken, ``chains x draws x ...``.
        moments: the moments passed in, with the draws added to them; None if none were passed in.
    """

    params: State
    kept: dict[str, Tensor]
    moments: StreamingStats | None


class Engine(ABC):
    """Moves the chains of a kernel, and leaves the kernel's tuning as if the kernel had moved them itself."""

    block: int
    """The most draws in one call of ``collect``."""

    def __init__(self, kernel: ChainsKernel) -> None:
        self.kernel = kernel

    @abstractmethod
    def begin(self) -> None:
        """Take the kernel's parameters and torch's random state as they are at the start of a run."""

    @abstractmethod
    def advance(self, params: State, sweeps: int) -> State:
        """The chains after some sweeps."""

    @abstractmethod
    def collect(
        self, params: State, draws: int, thinning: int, layers: Sequence[str], moments: StreamingStats | None
    ) -> Collected:
        """Run ``draws * thinning`` sweeps, and keep a draw after every ``thinning`` of them."""


class TorchEngine(Engine):
    """Has the kernel move its chains."""

    block = 1

    def begin(self) -> None:
        """Nothing to do: the kernel reads both at every sweep."""

    def advance(self, params: State, sweeps: int) -> State:
        return self.kernel.move(params, sweeps)

    def collect(
        self, params: State, draws: int, thinning: int, layers: Sequence[str], moments: StreamingStats | None
    ) -> Collected:
        return one_draw(self.kernel, self.advance(params, thinning), layers, moments)


def one_draw(kernel: ChainsKernel, params: State, layers: Sequence[str], moments: StreamingStats | None) -> Collected:
    """Keep one draw, the chains' present state."""
    drawn = kernel.draws(params)
    if moments is None:
        return Collected(params, {layer: drawn[layer].unsqueeze(1) for layer in layers}, None)
    moments.update({layer: drawn[layer].double() for layer in layers})
    return Collected(params, {name: e.unsqueeze(1) for name, e in kernel.scalars(drawn).items()}, moments)
