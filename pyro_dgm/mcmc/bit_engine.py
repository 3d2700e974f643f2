"""Many Gibbs sweeps of layers of bits in one call of a compiled loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
from pyro.ops.streaming import StreamingStats
from torch import Tensor
from torch.nn.functional import pad

from ..energy import Binary, BoltzmannDistribution, Dense, State
from ..energy.fast import compiled_loops, seeds
from .engine import Collected, TorchEngine
from .gibbs import BlockGibbs
from .kernel import ChainsKernel

_FEW = 32
"""Chains from which tables of sums are worth making."""

_SMALL = 1 << 19
"""Weights times chains below which XLA is faster."""

_LARGE = 1 << 26
"""Weights of which two more copies are too many: half a gigabyte."""


class BitEngine(TorchEngine):
    """``BlockGibbs`` of large machines of bits with dense couplings, without a clamp, in single precision on the processor.

    Weights are copied in tiles when a run begins. States are words of bits between the sweeps, products tables of sums, and
    torch's threads share every layer. Two words of torch's generator seed every call, whatever the number of threads.
    """

    kernel: BlockGibbs
    block = 10

    @classmethod
    def fits(cls, kernel: ChainsKernel) -> bool:
        """Whether the loop can sweep a kernel's machine, and its chains are enough for it."""
        if not cls._can_sweep(kernel):
            return False
        weights = sum(weight.numel() for weight in kernel.machine.weights)
        return kernel.num_chains >= _FEW and kernel.num_chains * weights >= _SMALL and weights <= _LARGE

    @staticmethod
    def _can_sweep(kernel: ChainsKernel) -> TypeGuard[BlockGibbs]:
        if type(kernel) is not BlockGibbs or not isinstance(kernel.dist, BoltzmannDistribution):
            return False
        graph = kernel.machine.graph
        return (
            torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
            and kernel.clamp is None
            and kernel.precision == "float32"
            and not kernel.dist.batch_shape
            and all(type(unit) is Binary for unit in graph.layers.values())
            and all(type(interaction) is Dense for interaction in graph.interactions)
            and all(block.atoms is None for colour in graph.colours for block in colour)
            and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in kernel.dist.parameters())
        )

    def begin(self) -> None:
        if not self._can_sweep(self.kernel):
            raise ValueError(
                "the kernel got a clamp, or its machine another precision or device, after engine='numpyro' was chosen for "
                "them; make a new VectorizedMCMC"
            )
        machine = self.kernel.machine
        graph = machine.graph
        self._names = list(graph.layers)
        self._biases = [machine.biases[name][0].detach().flatten().clone() for name in self._names]
        order = [block.layer for colour in graph.colours for block in colour]
        flows, self._weights = [], []
        for place, name in enumerate(order):
            for number, end in graph.touching[name]:
                flows += [place, self._names.index(graph.interactions[number].ends[1 - end].layer)]
                weight = machine.weights[number].detach()
                self._weights.append(_tiled(weight if end == 1 else weight.t()))
        sizes = [bias.numel() for bias in self._biases]
        self._counts = len(self._names), len(order), len(self._weights)
        self._numbers = [*sizes, *(self._names.index(name) for name in order), *flows]

    def advance(self, params: State, sweeps: int) -> State:
        words = self._words(params)
        if words is None:  # other numbers, to start from: bits after a sweep
            return self.advance(super().advance(params, 1), sweeps - 1) if sweeps else params
        from ..energy import bit_products, bit_sweeps

        rows = len(params[self._names[0]])
        tensors = [seeds(), *self._biases, *words, *self._weights]
        compiled_loops().together(bit_sweeps.sweep_bits, tensors, rows, *self._counts, sweeps, *self._numbers)
        found = {}
        for name, bias, read in zip(self._names, self._biases, words, strict=True):
            x = bias.new_empty(rows, len(bias))
            compiled_loops().together(bit_products.write_bits, (x, read), *x.shape, len(read))
            found[name] = x.view(params[name].shape)
        return found

    def collect(
        self, params: State, draws: int, thinning: int, layers: Sequence[str], moments: StreamingStats | None
    ) -> Collected:
        parts = []
        for _ in range(draws):
            params, kept, moments = super().collect(params, 1, thinning, layers, moments)
            parts.append(kept)
        return Collected(params, {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}, moments)

    def _words(self, params: State) -> list[Tensor] | None:
        """Words of every layer's bits, or None where there are other numbers."""
        from ..energy import bit_products
        from ..energy.intrinsics import TILE

        found, others = [], torch.zeros(1, dtype=torch.int64)
        for name, bias in zip(self._names, self._biases, strict=True):
            x = params[name].flatten(1).to(bias).contiguous()
            words = x.new_empty(-(-x.shape[1] // TILE), len(x), dtype=torch.int32)
            compiled_loops().together(bit_products.read_bits, (x, words, others), *x.shape, len(words))
            found.append(words)
        return None if others.item() else found


def _tiled(weight: Tensor) -> Tensor:
    """``strips x tiles x 32 x 32``, with zeros beyond the edges."""
    from ..energy.intrinsics import TILE

    rows, columns = weight.shape
    padded = pad(weight, (0, -columns % TILE, 0, -rows % TILE))
    return padded.unflatten(0, (-1, TILE)).unflatten(-1, (-1, TILE)).permute(2, 0, 1, 3).contiguous()
