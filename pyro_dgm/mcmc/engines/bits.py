"""Many steps over layers of bits in one call of a compiled loop."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from pyro.ops.streaming import StreamingStats
from torch import Tensor

from ...energy import State
from ...native import steps_pay, sweeps_pay
from ..bit_layers import holds_bits, packed, unpacked
from ..gibbs import BlockGibbs
from ..kernel import ChainsKernel, EnergyKernel, steps_at_once
from ..tempering import ParallelTempering
from .engine import Collected, Engine, one_draw

LONG_RUN = 1000
"""The fewest sweeps of a small machine, at some 0.1 ms each, for which the loop is loaded unasked: that takes half a second."""

KEPT = 1 << 22
"""About the most numbers of draws that are unpacked at once."""


class BitEngine(Engine):
    """Moves a kernel of a machine of bits with dense couplings, without a clamp, in single precision on the processor.

    Weights are copied when a run begins. Words of torch's generator seed every call, whatever the number of threads.
    """

    kernel: EnergyKernel
    block = 10

    @classmethod
    def of(cls, kernel: ChainsKernel, against: str = "jax", sweeps: float = math.inf) -> BitEngine | None:
        """The engine of a kernel; None if the loop cannot run its machine, or would not be faster.

        Args:
            kernel: the kernel.
            against: what runs the machine otherwise, ``"torch"`` or ``"jax"``.
            sweeps: the length of the run.
        """
        engines: dict[type, type[BitEngine]] = {BlockGibbs: BitGibbs, ParallelTempering: BitTempering}
        if not isinstance(kernel, EnergyKernel) or type(kernel) not in engines:
            return None
        engine = engines[type(kernel)](kernel)
        if not engine.knows():
            return None
        weights = sum(weight.numel() for weight in kernel.dist.machine.weights)
        return engine if engine.pays(weights, against, sweeps) else None

    def pays(self, weights: int, against: str, sweeps: float) -> bool:
        """Whether the loop is faster for that many weights and sweeps."""
        return steps_pay(self.rows(), weights)

    def knows(self) -> bool:
        """Whether the loop can move the kernel's chains."""
        return self.kernel.clamp is None and holds_bits(self.kernel.dist)

    def rows(self) -> int:
        """The number of states that are moved at once."""
        return self.kernel.num_chains

    def begin(self) -> None:
        if not self.knows():
            raise ValueError(
                "the kernel got a clamp, or its machine another precision or device, after engine='compiled' was chosen for "
                "them; make a new VectorizedMCMC"
            )
        machine = self.kernel.dist.machine
        self.names = list(machine.graph.layers)
        self.bits = packed(machine)

    def advance(self, params: State, sweeps: int) -> State:
        most = steps_at_once(self.kernel.dist, self.rows())
        while sweeps:
            words = self.bits.pack([params[name] for name in self.names])
            if words is None:  # first states that are not zeros and ones become bits by a sweep
                params, sweeps = self.kernel.sample(params), sweeps - 1
                continue
            steps = min(sweeps, most)
            params, sweeps = self.move(params, words, steps), sweeps - steps
        return params

    @abstractmethod
    def move(self, params: State, words: Sequence[Tensor], steps: int) -> State:
        """The chains after some steps, from the words of their bits, which are overwritten."""

    def collect(
        self, params: State, draws: int, thinning: int, layers: Sequence[str], moments: StreamingStats | None
    ) -> Collected:
        draws_kept = []
        for _ in range(draws):
            params, kept, moments = one_draw(self.kernel, self.advance(params, thinning), layers, moments)
            draws_kept.append(kept)
        return Collected(
            params, {name: torch.cat([kept[name] for kept in draws_kept], 1) for name in draws_kept[0]}, moments
        )


class BitGibbs(BitEngine):
    """The engine of ``BlockGibbs``."""

    kernel: BlockGibbs

    def knows(self) -> bool:
        return super().knows() and self.kernel.precision == "float32"

    def pays(self, weights: int, against: str, sweeps: float) -> bool:
        long_enough = sweeps >= LONG_RUN and sweeps_pay(self.rows(), weights, against)
        return super().pays(weights, against, sweeps) or long_enough

    def begin(self) -> None:
        super().begin()
        units = sum(shape.numel() for shape in self.kernel.dist.shapes.values())
        self.block = min(max(10, KEPT // (self.rows() * units)), 1000)

    def move(self, params: State, words: Sequence[Tensor], steps: int) -> State:
        self.bits.sweep(words, steps)
        return unpacked(self.bits, words, self.names, params)

    def collect(
        self, params: State, draws: int, thinning: int, layers: Sequence[str], moments: StreamingStats | None
    ) -> Collected:
        words = self.bits.pack([params[name] for name in self.names])
        if words is None or moments is not None:
            return super().collect(params, draws, thinning, layers, moments)
        most, kept = steps_at_once(self.kernel.dist, self.rows()), []
        places = [place for place, name in enumerate(self.names) if name in layers]
        for _ in range(draws):
            for start in range(0, thinning, most):
                self.bits.sweep(words, min(most, thinning - start))
            kept.append([words[place].clone() for place in places])
        # A layer's words of all draws side by side, as if they were more chains.
        history = self.bits.unpack([torch.cat(of_layer, 1) for of_layer in zip(*kept, strict=True)], places)
        chains = {
            name: x.unflatten(0, (draws, -1)).transpose(0, 1).unflatten(-1, params[name].shape[1:])
            for name, x in ((self.names[place], x) for place, x in zip(places, history, strict=True))
        }
        return Collected(
            unpacked(self.bits, words, self.names, params), {layer: chains[layer] for layer in layers}, None
        )


class BitTempering(BitEngine):
    """The engine of ``ParallelTempering`` of machines in two colours, whose temperatures are adapted between calls."""

    kernel: ParallelTempering

    def knows(self) -> bool:
        return super().knows() and len(self.kernel.gibbs.machine.colours) == 2

    def rows(self) -> int:
        return self.kernel.num_chains * len(self.kernel.tuning["betas"])

    def advance(self, params: State, sweeps: int) -> State:
        self.kernel._check(params)
        while sweeps:
            count = min(sweeps, self.kernel.until_adaptation())
            params = super().advance(params, count)
            sweeps -= count
        return params

    def move(self, params: State, words: Sequence[Tensor], steps: int) -> State:
        return self.kernel.temper(self.bits, params, words, steps)
