"""A graph bound to parameters: energies, fields, sweeps and sums over free units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .graph import Block, Colour, Graph
from .joint_blocks import marginal_fields
from .paired_bits import sum_over_paired_bits

State = dict[str, Tensor]
Clamp = Mapping[str, tuple[Tensor, Tensor]]


class Machine:
    r"""A Boltzmann machine $p(x) \propto e^{-E(x)}$ with $-E = \sum_l \langle b_l, T_l\rangle + \sum_i I_i(T; W_i)$.

    Binding is cheap: nothing is copied or checked. A state is ``{layer: batch_shape x layer shape}``; biases and weights may
    have batch dimensions too, which broadcast against the state's. Energies are in nats.

    Args:
        graph: the layers and couplings.
        biases: for every layer its natural parameters, one tensor per statistic, ``batch_shape x layer shape``.
        weights: one tensor per interaction.
    """

    def __init__(self, graph: Graph, biases: Mapping[str, tuple[Tensor, ...]], weights: Sequence[Tensor]) -> None:
        self.graph = graph
        self.biases = {
            name: biases[name] if unit.event_dim == 1 else tuple(b.flatten(-unit.event_dim) for b in biases[name])
            for name, unit in graph.layers.items()
        }
        self.weights = tuple(weights)

    @classmethod
    def of_flat(cls, graph: Graph, biases: Mapping[str, tuple[Tensor, ...]], weights: Sequence[Tensor]) -> Machine:
        """A machine whose biases are flat already."""
        machine = object.__new__(cls)
        machine.graph, machine.biases, machine.weights = graph, dict(biases), tuple(weights)
        return machine

    def rebound(self, biases: Mapping[str, tuple[Tensor, ...]]) -> Machine:
        """A machine with the same couplings and other biases, which are flat already."""
        return Machine.of_flat(self.graph, biases, self.weights)

    @property
    def colours(self) -> tuple[Colour, ...]:
        """The graph's colours, with indices on the parameters' device."""
        return self.graph.colours_on(next(iter(self.biases.values()))[0].device)

    def statistics(self, state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
        """The sufficient statistics of every layer in ``state``, flat."""
        return {name: self.flat(name, self.graph.layers[name].T(x)) for name, x in state.items()}

    def flat(self, layer: str, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Tensors of a layer's shape, with its dimensions made one."""
        dims = self.graph.layers[layer].event_dim
        return tensors if dims == 1 else tuple(t.flatten(-dims) for t in tensors)

    def shaped(self, block: Block, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Flat tensors of a block, in the shape of its atoms."""
        unit = self.graph.layers[block.layer]
        if unit.event_dim == 1:
            return tensors
        shape = (
            unit.shape if block.atoms is None else (len(block.atoms), *unit.shape[unit.event_dim - unit.inner_dim :])
        )
        return tuple(t.unflatten(-1, shape) for t in tensors)

    def energy(self, state: Mapping[str, Tensor]) -> Tensor:
        """$E$ of a full state: ``batch_shape``."""
        return -self.value(self.statistics(state))

    def value(self, statistics: Mapping[str, tuple[Tensor, ...]], without: frozenset[str] = frozenset()) -> Tensor:
        """-E of the layers outside ``without``: ``batch_shape``."""
        terms = [
            statistic @ bias if bias.dim() == 1 else (bias * statistic).sum(-1)
            for layer, layer_statistics in statistics.items()
            if layer not in without
            for bias, statistic in zip(self.biases[layer], layer_statistics, strict=True)
        ]
        terms += [
            interaction.value(statistics, weight)
            for interaction, weight in zip(self.graph.interactions, self.weights, strict=True)
            if without.isdisjoint(end.layer for end in interaction.ends)
        ]
        return sum(terms[1:], start=terms[0]) if terms else next(iter(self.biases.values()))[0].new_zeros(())

    def fields(
        self,
        block: Block,
        statistics: Mapping[str, tuple[Tensor, ...]],
        beta: Tensor | float | None = None,
        skip: frozenset[int] = frozenset(),
    ) -> tuple[Tensor, ...]:
        r"""Natural parameters of a block given all other units, $-\partial E / \partial T$, shaped as the block's atoms.

        Couplings are multiplied by ``beta`` where it is given; biases are not, since tempering acts on fields. Interactions whose
        numbers are in ``skip`` are left out.
        """
        entries = block.entries
        result = []
        for number, bias in enumerate(self.biases[block.layer]):
            total = bias if entries is None else bias.index_select(-1, entries)
            for i, position in self.graph.touching[block.layer]:
                interaction = self.graph.interactions[i]
                if i in skip or interaction.ends[position].statistic != number:
                    continue
                if beta is None:
                    total = interaction.field(position, statistics, self.weights[i], entries, total)
                else:
                    total = total + beta * interaction.field(position, statistics, self.weights[i], entries)
            result.append(total)
        return self.shaped(block, tuple(result))

    def sweep(
        self,
        state: State,
        clamp: Clamp | None = None,
        skip: frozenset[str] = frozenset(),
    ) -> State:
        """Make one Gibbs sweep over the colours, in order; returns a new state.

        Args:
            state: every layer, ``chains x layer shape``.
            clamp: ``{layer: (mask, value)}``: entries held at a value.
            skip: layers left as they are.
        """
        state, replaced = dict(state), set[str]()
        statistics = self.statistics(state)
        for colour in self.colours:
            for block in colour:
                if block.layer in skip:
                    continue
                fresh = bool(self.graph.touching[block.layer])
                if (other := self.graph.joint.get(block.layer)) and other not in skip and other not in (clamp or {}):
                    eta = marginal_fields(self.graph, self.fields, block.layer, other, statistics)
                else:
                    eta = self.fields(block, statistics)
                state[block.layer] = self.draw_block(
                    block, eta, state[block.layer], clamp, fresh, block.layer in replaced
                )
                statistics[block.layer] = self.statistics({block.layer: state[block.layer]})[block.layer]
                if block.atoms is not None:
                    replaced.add(block.layer)
        return state

    def draw_block(
        self,
        block: Block,
        eta: tuple[Tensor, ...],
        old: Tensor,
        clamp: Clamp | None,
        fresh: bool = False,
        overwrite: bool = False,
    ) -> Tensor:
        """A layer with one of its blocks drawn anew.

        The draw may take the memory of ``fresh`` fields; with ``overwrite`` the layer takes that of ``old`` where it can.
        """
        unit = self.graph.layers[block.layer]
        dims, leading_shape = self.atom_dims(block), old.shape[: old.dim() - unit.event_dim]
        if any(e.shape[: e.dim() - dims] != leading_shape for e in eta):
            # Nothing couples the block, so that its fields have no dimension of chains; every chain still draws for itself.
            eta = tuple(e.expand(*leading_shape, *e.shape[e.dim() - dims :]) for e in eta)
        if clamp is None or block.layer not in clamp:
            new = unit.sample(*eta, overwrite=fresh)
        else:
            mask, value = (t.expand(old.shape) for t in clamp[block.layer])
            if block.atoms is not None:
                dim = -1 - unit.inner_dim
                mask, value = (t.index_select(dim, block.atoms) for t in (mask, value))
            new = unit.sample_clamped(eta, mask, value)
        return self.place(block, old, new, overwrite)

    def place(self, block: Block, old: Tensor, new: Tensor, overwrite: bool = False) -> Tensor:
        """A layer with a block's new states in their places."""
        unit = self.graph.layers[block.layer]
        if block.atoms is None:
            return new if new.shape == old.shape else new.expand(old.shape)
        new = new.expand(*old.shape[: -unit.event_dim], *new.shape[-unit.event_dim :])
        return placed(old, block.atoms, new, unit.inner_dim, overwrite and not torch.is_grad_enabled())

    def neutral_state(self, shape: Sequence[int]) -> State:
        """A state drawn from the biases alone, ``shape x layer shape``."""
        state = {}
        for layer, unit in self.graph.layers.items():
            eta = self.shaped(Block(layer), self.biases[layer])
            state[layer] = unit.sample(*(e.detach().expand(*shape, *unit.shape).contiguous() for e in eta))
        return state

    def atom_dims(self, block: Block) -> int:
        """The number of trailing dimensions of a block's shaped fields."""
        unit = self.graph.layers[block.layer]
        return unit.event_dim if block.atoms is None else 1 + unit.inner_dim

    def colour_fields(self, colour: Colour, state: Mapping[str, Tensor]) -> list[tuple[Tensor, ...]]:
        """The fields of a colour's blocks."""
        statistics = self.statistics(state)
        return [self.fields(block, statistics) for block in colour]

    def collapsed(self, colour: Colour, state: Mapping[str, Tensor]) -> Tensor:
        r"""$\log \sum_{colour} e^{-E}$: the units of one colour summed out, the others as in ``state``; ``batch_shape``.

        Layers that lie in the colour as a whole need not be in ``state``.
        """
        if self.graph.paired_bits:
            found = sum_over_paired_bits(self.graph, self.biases, self.weights, colour, state)
            if found is not None:
                return found
        statistics, whole = self.without(colour, self.statistics(state))
        total = self.value(statistics, whole)
        for block in colour:
            total = total + self.log_partition(block, self.fields(block, statistics))
        return total

    def log_partition(self, block: Block, eta: tuple[Tensor, ...]) -> Tensor:
        """The summed A of a block's atoms: ``batch_shape``."""
        unit = self.graph.layers[block.layer]
        return unit.summed_A(1 if block.atoms is not None else unit.event_dim - unit.inner_dim, *eta)

    def without(
        self, colour: Colour, statistics: Mapping[str, tuple[Tensor, ...]]
    ) -> tuple[dict[str, tuple[Tensor, ...]], frozenset[str]]:
        """The statistics with a colour's units zeroed (whole layers dropped), and the names of those layers."""
        whole = frozenset(block.layer for block in colour if block.atoms is None)
        kept = {layer: layer_statistics for layer, layer_statistics in statistics.items() if layer not in whole}
        for block in colour:
            if block.entries is not None:
                kept[block.layer] = tuple(s.index_fill(-1, block.entries, 0.0) for s in kept[block.layer])
        for interaction in self.graph.interactions:
            layers = {end.layer for end in interaction.ends}
            if layers <= {block.layer for block in colour}:
                # Both ends may lie in the colour without a coupled pair in it: each then reads the other's statistics.
                kept |= {n: tuple(torch.zeros_like(b) for b in self.biases[n]) for n in layers & whole}
        return kept, whole


def placed(old: Tensor, atoms: Tensor, new: Tensor, inner_dim: int = 0, overwrite: bool = False) -> Tensor:
    """``old`` with ``new`` in the place of some atoms, by ``scatter`` where it applies, since it is faster."""
    if inner_dim:
        return old.index_copy(-1 - inner_dim, atoms, new)
    place = atoms.expand(new.shape)
    return old.scatter_(-1, place, new) if overwrite else old.scatter(-1, place, new)
