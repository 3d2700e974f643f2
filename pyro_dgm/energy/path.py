"""The machines between a product distribution and a Boltzmann machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .graph import Block, Colour
from .machine import Machine

Natural = Mapping[str, tuple[Tensor, ...]]
Fields = list[tuple[Tensor, ...]]


class TemperedPath:
    r"""The machines $p_\beta \propto e^{-E_\beta}$ with $-E_\beta = \langle\text{base}, T\rangle + \beta D$.

    $D = \langle \text{bias} - \text{base}, T\rangle + \sum_i I_i(T; W_i)$ is minus the energy of another machine, the
    ``difference``: a unit's natural parameter at $\beta$ is its base plus $\beta$ times its field there. So fields are
    interpolated, not weights, and one product with the weights serves all temperatures.

    Args:
        machine: the target, at $\beta = 1$.
        base: natural parameters of the product distribution at $\beta = 0$, for every layer.
    """

    def __init__(self, machine: Machine, base: Natural) -> None:
        self.machine = machine
        self.base = Machine(machine.graph, base, machine.weights).biases
        self.difference = machine.rebound(
            {
                layer: tuple(b - b0 for b, b0 in zip(entry, self.base[layer], strict=True))
                for layer, entry in machine.biases.items()
            }
        )

    def base_of(self, block: Block) -> tuple[Tensor, ...]:
        """Natural parameters of a block at $\\beta = 0$, shaped as its atoms."""
        entries = self.base[block.layer]
        if block.entries is not None:
            entries = tuple(b.index_select(-1, block.entries) for b in entries)
        return self.machine.shaped(block, entries)

    def fields(self, colour: Colour, statistics: Natural, leading_shape: Sequence[int]) -> Fields:
        """The derivatives of D by the statistics of a colour's blocks, ``leading_shape x atoms``, as new tensors.

        Args:
            colour: a colour of the graph.
            statistics: those of the other units at least, ``leading_shape x ...``.
            leading_shape: the sizes of the dimensions in front.
        """
        fields = []
        for block in colour:
            dims = self.machine.atom_dims(block)
            # A block without couplings has a field without rows, but every row draws its atoms for itself.
            fields.append(
                tuple(
                    f
                    if f.dim() == len(leading_shape) + dims
                    else f.expand(*leading_shape, *f.shape[f.dim() - dims :]).clone()
                    for f in self.difference.fields(block, statistics)
                )
            )
        return fields
