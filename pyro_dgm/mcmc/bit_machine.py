"""Machines of bits as the compiled loops read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..energy import Binary, BoltzmannDistribution, Dense, EnergyDistribution, Machine, State
from ..energy.fast import compiled_loops


class BitMachine:
    """Copies of a machine's biases, flat, and of its weights in tiles, with the numbers that tell how they belong together.

    Args:
        machine: of a distribution that ``fits``.

    Attributes:
        names: the layers.
        biases: theirs.
        weights: for every block and coupling at it ``strips x tiles x 32 x 32``, with zeros beyond the edges.
        counts: the numbers of layers, of blocks and of these weights.
        numbers: the layers' sizes, the layer of every block, and for every weight the block that it leads to and the layer
            that it comes from.
    """

    def __init__(self, machine: Machine) -> None:
        graph = machine.graph
        self.names = list(graph.layers)
        self.biases = [machine.biases[name][0].detach().flatten().clone() for name in self.names]
        order = [block.layer for colour in graph.colours for block in colour]
        flows: list[int] = []
        self.weights = []
        for place, name in enumerate(order):
            for number, end in graph.touching[name]:
                flows += [place, self.names.index(graph.interactions[number].ends[1 - end].layer)]
                weight = machine.weights[number].detach()
                self.weights.append(_tiled(weight if end == 1 else weight.t()))
        self.counts = len(self.names), len(order), len(self.weights)
        self.numbers = [*(len(bias) for bias in self.biases), *(self.names.index(name) for name in order), *flows]

    def each(self) -> Iterable[tuple[str, Tensor]]:
        """Names and biases of the layers."""
        return zip(self.names, self.biases, strict=True)

    @staticmethod
    def fits(dist: EnergyDistribution) -> bool:
        """Whether nothing but bits and dense couplings is in it, in single precision on a processor with wide vectors."""
        if not isinstance(dist, BoltzmannDistribution):
            return False
        graph = dist.machine.graph
        return (
            torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
            and not dist.batch_shape
            and all(type(unit) is Binary for unit in graph.layers.values())
            and all(type(interaction) is Dense for interaction in graph.interactions)
            and all(block.atoms is None for colour in graph.colours for block in colour)
            and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in dist.parameters())
        )

    def words(self, state: State) -> list[Tensor] | None:
        """Words of every layer's bits, ``tiles x rows``, or None where there are other numbers.

        Args:
            state: ``{layer: batch_shape x layer shape}``; the batch is one dimension of rows here.
        """
        from ..energy import bit_products
        from ..energy.intrinsics import TILE

        found, others = [], torch.zeros(1, dtype=torch.int64)
        for name, bias in self.each():
            x = state[name].reshape(-1, len(bias)).to(bias).contiguous()
            words = x.new_empty(-(-len(bias) // TILE), len(x), dtype=torch.int32)
            compiled_loops().together(bit_products.read_bits, (x, words, others), *x.shape, len(words))
            found.append(words)
        return None if others.item() else found

    def state(self, words: Sequence[Tensor], like: Mapping[str, Tensor]) -> State:
        """The inverse of ``words``, in the shapes of another state."""
        from ..energy import bit_products

        found = {}
        for name, bias, entry in zip(self.names, self.biases, words, strict=True):
            x = bias.new_empty(entry.shape[1], len(bias))
            compiled_loops().together(bit_products.write_bits, (x, entry), *x.shape, len(entry))
            found[name] = x.view(like[name].shape)
        return found


def padded(x: Tensor) -> Tensor:
    """A copy with zeros up to whole tiles."""
    from ..energy.intrinsics import TILE

    return pad(x.detach(), (0, -len(x) % TILE))


def _tiled(weight: Tensor) -> Tensor:
    from ..energy.intrinsics import TILE

    rows, columns = weight.shape
    whole = pad(weight, (0, -columns % TILE, 0, -rows % TILE))
    return whole.unflatten(0, (-1, TILE)).unflatten(-1, (-1, TILE)).permute(2, 0, 1, 3).contiguous()
