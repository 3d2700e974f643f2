"""Many steps over layers of bits in one call of a compiled loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from pyro.ops.streaming import StreamingStats
from torch import Tensor

from ..energy import State
from ..energy.fast import compiled_loops, seeds
from .bit_machine import BitMachine, padded
from .engine import Collected, Engine, one_draw
from .gibbs import BlockGibbs
from .kernel import ChainsKernel
from .tempering import ParallelTempering

_FEW = 32
"""Rows from which tables of sums are worth making."""

_SMALL = 1 << 19
"""Weights times rows below which XLA is faster."""

_LARGE = 1 << 26
"""Weights of which two more copies are too many: half a gigabyte."""


class BitEngine(Engine):
    """Moves a kernel of a large machine of bits with dense couplings, without a clamp, in single precision on the processor.

    Weights are copied in tiles when a run begins. States are words of bits between the steps, products tables of sums, and
    torch's threads share every layer. Words of torch's generator seed every call, whatever the number of threads.
    """

    block = 10

    @classmethod
    def of(cls, kernel: ChainsKernel) -> BitEngine | None:
        """The engine of a kernel; None where the loop does not know its machine, or would not be faster."""
        engines: dict[type, type[BitEngine]] = {BlockGibbs: BitGibbs, ParallelTempering: BitTempering}
        if type(kernel) not in engines:
            return None
        engine = engines[type(kernel)](kernel)
        if not engine.knows():
            return None
        rows, weights = engine.rows(), sum(weight.numel() for weight in kernel.dist.machine.weights)
        return engine if rows >= _FEW and rows * weights >= _SMALL and weights <= _LARGE else None

    def knows(self) -> bool:
        """Whether the loop can move the kernel's chains."""
        return self.kernel.clamp is None and BitMachine.fits(self.kernel.dist)

    def rows(self) -> int:
        """States that are moved at once."""
        return self.kernel.num_chains

    def begin(self) -> None:
        if not self.knows():
            raise ValueError(
                "the kernel got a clamp, or its machine another precision or device, after engine='numpyro' was chosen for "
                "them; make a new VectorizedMCMC"
            )
        self.machine = BitMachine(self.kernel.dist.machine)

    def advance(self, params: State, sweeps: int) -> State:
        words = self.machine.words(params)
        if words is None:  # other numbers, to start from: bits after a sweep
            return self.advance(self.kernel.sample(params), sweeps - 1) if sweeps else params
        return self.move(params, words, sweeps)

    @abstractmethod
    def move(self, params: State, words: Sequence[Tensor], steps: int) -> State:
        """The chains after some steps, from the words of their bits, which are overwritten."""

    def collect(
        self, params: State, draws: int, thinning: int, layers: Sequence[str], moments: StreamingStats | None
    ) -> Collected:
        parts = []
        for _ in range(draws):
            params, kept, moments = one_draw(self.kernel, self.advance(params, thinning), layers, moments)
            parts.append(kept)
        return Collected(params, {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}, moments)


class BitGibbs(BitEngine):
    """``BlockGibbs``."""

    kernel: BlockGibbs

    def knows(self) -> bool:
        return super().knows() and self.kernel.precision == "float32"

    def move(self, params: State, words: Sequence[Tensor], steps: int) -> State:
        from ..energy import bit_sweeps

        bits = self.machine
        tensors = [seeds(), *bits.biases, *words, *bits.weights]
        numbers = words[0].shape[1], *bits.counts, steps, *bits.numbers
        compiled_loops().together(bit_sweeps.sweep_bits, tensors, *numbers)
        return bits.state(words, params)


class BitTempering(BitEngine):
    """``ParallelTempering`` of machines in two colours, whose temperatures are adapted between calls."""

    kernel: ParallelTempering

    def knows(self) -> bool:
        return super().knows() and len(self.kernel.gibbs.machine.colours) == 2

    def rows(self) -> int:
        return self.kernel.num_chains * len(self.kernel.tuning["betas"])

    def begin(self) -> None:
        super().begin()
        base = self.kernel.base
        pairs = [(bias, base[name][0].to(bias).flatten()) for name, bias in self.machine.each()]
        self._base = [padded(start) for _, start in pairs]
        self._difference = [padded(bias - start) for bias, start in pairs]

    def advance(self, params: State, sweeps: int) -> State:
        self.kernel._check(params)
        while sweeps:
            now = min(sweeps, self.kernel.until_adaptation())
            params = super().advance(params, now)
            sweeps -= now
        return params

    def move(self, params: State, words: Sequence[Tensor], steps: int) -> State:
        from ..energy import bit_tempering

        bits, kernel = self.machine, self.kernel
        betas, rows = kernel.tuning["betas"].double().contiguous(), words[0].shape[1]
        like = bits.biases[0]
        early = [bits.names.index(block.layer) for block in kernel.gibbs.machine.colours[0]]
        fields = [like.new_empty(rows, self._base[layer].numel()) for layer in early]
        gaps = like.new_empty(sum(len(w) for w in words), rows)
        before = kernel.trips(params, (rows // len(betas),))
        rate, source = betas.new_zeros(len(betas) - 1), torch.empty(rows, dtype=torch.int64)
        from_base, trips = before[0].to(torch.uint8).contiguous(), before[1].clone()
        tensors = [torch.cat([seeds(), seeds()]), betas, rate, source, from_base, trips, gaps]
        tensors += [*self._base, *self._difference, *words, *bits.weights, *fields]
        numbers = rows, *bits.counts, steps, len(betas), len(early), *bits.numbers
        compiled_loops().together(bit_tempering.temper_bits, tensors, *numbers)
        state = bits.state(words, params)
        kernel.took(state, steps, rate / (steps * (rows // len(betas))), from_base.bool(), trips)
        return state
