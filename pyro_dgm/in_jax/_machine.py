"""A Boltzmann machine in JAX: energies, fields, sweeps, and one colour summed out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._product import parts, product
from ._structure import Arrays, Flow, Layer, Structure, flow_name
from ._units import KINDS, Eta, Units, units

State = dict[str, Any]
Statistics = dict[str, Eta]


class Block(NamedTuple):
    """Atoms of a layer that are drawn at once: their bias, and the couplings that lead to each of their statistics."""

    layer: Layer
    atoms: Any
    entries: Any
    bias: Eta
    inputs: tuple[tuple[tuple[str, int, Callable[[Any], Any]], ...], ...]


class Machine:
    r"""$-E = \sum_l \langle b_l, T_l\rangle + \sum_i I_i(T; W_i)$ over arrays of JAX, made ready for many sweeps.

    Make it inside a jitted function, before its loops, so that weights are gathered and split once. States are
    ``{layer: batch_shape x layer shape}``, statistics are flat.

    Args:
        structure: the graph.
        arrays: its numbers.
        terms: the number of bfloat16 numbers that may stand for a weight where their products are faster (``parts``): 2 for
            samplers; 3 for figures, which then have single precision; 0 for gradients, which such products lack.
    """

    def __init__(self, structure: Structure, arrays: Arrays, terms: int = 0) -> None:
        self.structure, self.arrays, self.terms = structure, arrays, terms
        self.units = units_of(structure, arrays)
        self.colours = tuple(tuple(self._block(*block) for block in colour) for colour in structure.colours)

    def _block(self, name: str, place: int | None) -> Block:
        layer = self.structure.layer(name)
        atoms = None if place is None else self.arrays.atoms[place]
        entries = None if atoms is None else (atoms[:, None] * layer.inner + jnp.arange(layer.inner)).reshape(-1)
        bias = tuple(_shaped(layer, b if entries is None else b[entries]) for b in self.arrays.biases[name])
        inputs: list[list[tuple[str, int, Callable[[Any], Any]]]] = [[] for _ in bias]
        for number, end in self.structure.touching(name):
            coupling = self.structure.couplings[number]
            source, statistic = coupling.ends[1 - end]
            flow = self.arrays.flows.get(flow_name(name, place, number, end))
            bring = self._sparse(number, flow, bias[0].size) if flow is not None else self._dense(number, end, entries)
            inputs[coupling.ends[end][1]].append((source, statistic, bring))
        return Block(layer, atoms, entries, bias, tuple(tuple(entry) for entry in inputs))

    def _dense(self, number: int, end: int, entries: Any) -> Callable[[Any], Any]:
        coupling, weight = self.structure.couplings[number], self.arrays.weights[number]
        weight = 2 * weight if coupling.kind == "lateral" else weight if end == 1 else weight.T
        weight = weight if entries is None else weight[:, entries]
        source = KINDS[self.structure.layer(coupling.ends[1 - end][0]).kind]
        terms = parts(weight, self.terms if source.exact else 0)
        return lambda x: product(x, terms)

    def _sparse(self, number: int, flow: Any, size: int) -> Callable[[Any], Any]:
        padded = jnp.append(self.arrays.weights[number], 0.0)
        weight = padded[flow.edges]
        if isinstance(flow, Flow):
            return lambda x: (
                jnp.zeros((*x.shape[:-1], size), x.dtype).at[..., flow.targets].add(x[..., flow.sources] * weight)
            )
        rows = tuple(zip(flow.sources, weight, strict=True))
        if not rows:
            return lambda x: jnp.zeros((*x.shape[:-1], size), x.dtype)
        return lambda x: functools.reduce(jnp.add, (x[..., source] * w for source, w in rows))

    def statistics(self, state: Mapping[str, Any]) -> Statistics:
        """The flat statistics of the layers of a state."""
        return {name: self._flat(name, x) for name, x in state.items()}

    def _flat(self, name: str, x: Any) -> Eta:
        layer = self.structure.layer(name)
        leading_shape = x.shape[: x.ndim - len(layer.shape)]
        atoms = x.reshape(*leading_shape, *_atom_shape(layer, layer.atoms))
        return tuple(t.reshape(*leading_shape, -1) for t in self.units[name].T(atoms))

    def value(self, statistics: Statistics) -> Any:
        """-E: ``batch_shape``."""
        return self.dot(self.arrays.biases, statistics) + self.coupled(statistics)

    def dot(self, natural: Mapping[str, Eta], statistics: Statistics) -> Any:
        """The product of flat natural parameters and statistics: ``batch_shape``."""
        pairs = (zip(tensors, natural[name], strict=True) for name, tensors in statistics.items())
        return sum(t @ b for layer in pairs for t, b in layer)

    def coupled(self, statistics: Statistics, without: tuple[Block, ...] = ()) -> Any:
        """The couplings' part of -E; couplings of layers that lie whole in ``without``, and so are zero, are left out."""
        zero = {block.layer.name for block in without if block.entries is None}
        total: Any = 0.0
        for coupling, weight, edges in zip(
            self.structure.couplings, self.arrays.weights, self.arrays.edges, strict=True
        ):
            if zero & {name for name, _ in coupling.ends}:
                continue
            first, second = (statistics[name][statistic] for name, statistic in coupling.ends)
            if edges is None:
                total = total + ((first @ weight) * second).sum(-1)
            else:
                total = total + (first[..., edges[:, 0]] * second[..., edges[:, 1]]) @ weight
        return total

    def raw(self, block: Block, statistics: Statistics) -> Eta:
        """The couplings' part of a block's fields, shaped as its atoms; zeros where nothing couples it."""
        leading_shape = next(iter(statistics.values()))[0].shape[:-1]
        fields = []
        for bias, inputs in zip(block.bias, block.inputs, strict=True):
            contributions = [flow(statistics[source][statistic]) for source, statistic, flow in inputs]
            total = (
                sum(contributions[1:], start=contributions[0])
                if contributions
                else jnp.zeros((*leading_shape, bias.size), bias.dtype)
            )
            fields.append(_shaped(block.layer, total))
        return tuple(fields)

    def fields(self, block: Block, statistics: Statistics) -> Eta:
        """Natural parameters of a block given all other units."""
        return tuple(b + r for b, r in zip(block.bias, self.raw(block, statistics), strict=True))

    def sweep(self, state: State, key: Any, clamp: Mapping[str, tuple[Any, Any]]) -> State:
        """The state after one Gibbs sweep of all rows, colour after colour."""
        state, statistics = dict(state), self.statistics(state)
        for colour, colour_key in zip(self.colours, jax.random.split(key, len(self.colours)), strict=True):
            for number, block in enumerate(colour):
                block_key = jax.random.fold_in(colour_key, number)
                self.draw(block, self.fields(block, statistics), state, statistics, block_key, clamp)
        return state

    def draw(
        self,
        block: Block,
        eta: Eta,
        state: State,
        statistics: Statistics,
        key: Any,
        clamp: Mapping[str, tuple[Any, Any]],
    ) -> None:
        """Draw a block given its natural parameters; updates ``state`` and ``statistics``."""
        layer = block.layer
        units, old = self.units[layer.name], state[layer.name]
        leading_shape = old.shape[: old.ndim - len(layer.shape)]
        flat = old.reshape(*leading_shape, *_atom_shape(layer, layer.atoms))
        if layer.name in clamp:
            mask, value = (jnp.broadcast_to(t, old.shape).reshape(flat.shape) for t in clamp[layer.name])
            if block.atoms is not None:
                axis = len(leading_shape)
                mask, value = (jnp.take(t, block.atoms, axis) for t in (mask, value))
            new = units.draw_clamped(key, eta, mask, value.astype(flat.dtype))
        else:
            new = units.draw(key, eta)
        if block.atoms is not None:
            where = (..., block.atoms) if layer.inner == 1 else (..., block.atoms, slice(None))
            new = flat.at[where].set(new)
        state[layer.name] = new.reshape(old.shape)
        statistics[layer.name] = self._flat(layer.name, state[layer.name])

    def without(self, colour: tuple[Block, ...], statistics: Statistics) -> Statistics:
        """The statistics, with zeros for a colour's units."""
        kept = dict(statistics)
        for block in colour:
            name = block.layer.name
            kept[name] = tuple(
                jnp.zeros_like(t) if block.entries is None else t.at[..., block.entries].set(0.0) for t in kept[name]
            )
        return kept

    def collapsed(self, blocks: tuple[Block, ...], state: State) -> Any:
        r"""$\log \sum_{blocks} e^{-E}$ over blocks of one colour, whatever ``state`` holds for them: ``batch_shape``."""
        statistics = self.without(blocks, self.statistics(state))
        total = self.dot(self.arrays.biases, statistics) + self.coupled(statistics, blocks)
        for block in blocks:
            total = total + self.units[block.layer.name].A(self.fields(block, statistics)).sum(-1)
        return total

    def start(self, key: Any, leading_shape: tuple[int, ...]) -> State:
        """A state drawn from the biases alone."""
        state = {}
        keys = jax.random.split(key, len(self.structure.layers))
        for layer, layer_key in zip(self.structure.layers, keys, strict=True):
            eta = tuple(_shaped(layer, b) for b in self.arrays.biases[layer.name])
            eta = tuple(jnp.broadcast_to(e, (*leading_shape, *e.shape)) for e in eta)
            drawn = self.units[layer.name].draw(layer_key, eta)
            state[layer.name] = drawn.reshape(*leading_shape, *layer.shape)
        return state


def units_of(structure: Structure, arrays: Arrays) -> dict[str, Units]:
    """The units of every layer, by name."""
    return {layer.name: units(layer.kind, arrays.origins.get(layer.name)) for layer in structure.layers}


def _atom_shape(layer: Layer, atoms: int) -> tuple[int, ...]:
    return (atoms,) if layer.inner == 1 else (atoms, layer.inner)


def _shaped(layer: Layer, flat: Any) -> Any:
    """Flat entries as atoms."""
    return flat if layer.inner == 1 else flat.reshape(*flat.shape[:-1], -1, layer.inner)
