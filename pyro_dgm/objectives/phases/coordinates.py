"""Gradients in the centred coordinates of a Boltzmann machine's own parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad
from torch.autograd.function import once_differentiable

from ...energy import Machine
from ...energy.interactions import End

Offsets = dict[str, tuple[Tensor, ...]]


def centred(machine: Machine, offsets: Offsets) -> Machine:
    r"""The machine with the same values, and with the gradients of centred coordinates.

    With $E = -(T-\mu)^\top U (T-\mu) - T^\top c$ (20.37) the bias is $c - F$, where $F$ are the fields of the couplings at the
    offsets $\mu$. A model's parameters are those of its couplings, $\phi$, and those of its biases, $b$. Where the machine's
    bias is $d\,b$ (as $\beta a$ in a machine with precisions), $c = b + F/d$. A gradient step in $(\phi, c)$ is the step
    $J J^\top g$ in $(\phi, b)$: with $S = \partial (F/d) / \partial \phi$, first
    $g_\phi \leftarrow g_\phi - S^\top g_b$, then $g_b \leftarrow g_b - S g_\phi$. A small one is downhill. Parameters are the
    leaves of autograd, of which biases and weights are functions: one that several couplings share changes once.

    Args:
        machine: a machine whose biases and weights are functions of parameters.
        offsets: flat mean statistics of every layer.

    Raises:
        ValueError: a coupled layer has no bias of its own that could take the shift.
    """
    if not _trains(machine):
        return machine
    coordinates = _Coordinates(machine, offsets)
    values = _Centre.apply(coordinates, *coordinates.leaves)
    replaced = {id(old): new for old, new in zip(coordinates.natural, values, strict=True)}
    other = object.__new__(Machine)
    other.graph = machine.graph
    other.biases = {layer: tuple(replaced.get(id(b), b) for b in biases) for layer, biases in machine.biases.items()}
    other.weights = tuple(replaced.get(id(weight), weight) for weight in machine.weights)
    return other


def why_not_centred(machine: Machine) -> str | None:
    """The reason why this machine's gradients cannot be centred, whatever the offsets; None where they can."""
    if _trains(machine):
        try:
            _own_biases(machine)
        except ValueError as error:
            return str(error)
    return None


def _trains(machine: Machine) -> bool:
    """Whether a gradient reaches any couplings."""
    return torch.is_grad_enabled() and any(weight.requires_grad for weight in machine.weights)


class _Centre(torch.autograd.Function):
    """Biases and weights as they are, as functions of the parameters whose derivative is that of centred coordinates."""

    @staticmethod
    def forward(ctx: Any, coordinates: _Coordinates, *leaves: Tensor) -> Any:
        ctx.coordinates = coordinates
        return tuple(t.detach() for t in coordinates.natural)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *ctx.coordinates.step(gradients)


class _Coordinates:
    """A machine's biases and weights, and the parameters of which they are functions, those of couplings first."""

    def __init__(self, machine: Machine, offsets: Offsets) -> None:
        self.graph, self.weights, self.offsets = machine.graph, machine.weights, offsets
        tensors = [*(b for biases in machine.biases.values() for b in biases), *machine.weights]
        self.natural = [t for t in {id(t): t for t in tensors}.values() if t.requires_grad]
        self.couplings = _leaves(machine.weights)
        known = {id(leaf) for leaf in self.couplings}
        self.leaves = self.couplings + [leaf for leaf in _leaves(self.natural) if id(leaf) not in known]
        self.biases = {
            end: _Bias(end, natural, leaf, None if natural is leaf else self._field(end, self.weights))
            for end, leaf in _own_biases(machine).items()
            for natural in (machine.biases[end.layer][end.statistic],)
        }

    def step(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The centred gradient by every parameter, from the plain ones by biases and weights."""
        by = {id(t): g for t, g in zip(self.natural, gradients, strict=True)}
        of_biases = {end: by[id(bias.natural)] for end, bias in self.biases.items()}
        for interaction, weight in zip(self.graph.interactions, self.weights, strict=True):
            if weight.requires_grad:
                ends = tuple(of_biases[end] for end in interaction.ends)
                offsets = tuple(self.offsets[end.layer][end.statistic] for end in interaction.ends)
                by[id(weight)] = interaction.centred_gradient(by[id(weight)], ends, offsets)
        step = self._pulled(by)
        count = len(self.couplings)
        turning = {end: bias.shift for end, bias in self.biases.items() if bias.shift is not None}
        if turning:
            outputs, cotangents = list(turning.values()), [of_biases[end] for end in turning]
            pulled = grad(outputs, self.couplings, cotangents, retain_graph=True, materialize_grads=True)
            step[:count] = [g + part for g, part in zip(step[:count], pulled, strict=True)]
        changes = _pushed([*self.weights, *turning.values()], self.couplings, step[:count])
        turns = dict(zip(turning, changes[len(self.weights) :], strict=True))
        for end, bias in self.biases.items():
            field, turn = self._field(end, changes[: len(self.weights)]), turns.get(end)
            if field is not None:
                place = next(i for i, leaf in enumerate(self.leaves) if leaf is bias.leaf)
                step[place] = step[place] - bias.divided(field if turn is None else field - turn)
        return step

    def _pulled(self, by: dict[int, Tensor]) -> list[Tensor]:
        """The gradients by the parameters from those by biases and weights, which may be the parameters themselves."""
        if all(t.is_leaf for t in self.natural):
            return [by[id(leaf)] for leaf in self.leaves]
        cotangents = [by[id(t)] for t in self.natural]
        return list(grad(self.natural, self.leaves, cotangents, retain_graph=True, materialize_grads=True))

    def _field(self, end: End, weights: Sequence[Tensor | None]) -> Tensor | None:
        """The field of couplings with these weights at one end, at the offsets; None without any."""
        field = None
        for number, position in self.graph.touching[end.layer]:
            interaction, weight = self.graph.interactions[number], weights[number]
            if weight is not None and interaction.ends[position] == end:
                field = interaction.field(position, self.offsets, weight.detach(), plus=field)
        return field


class _Bias:
    r"""A bias of the machine, as a function of the one parameter b that is its own.

    Its derivative D by b may have one entry in every row, as factors and copies give. The shift of b is s with $D s = F$;
    ``shift`` is $D s$ as a function of the couplings' parameters at a fixed s, where D depends on them.
    """

    def __init__(self, end: End, natural: Tensor, leaf: Tensor, field: Tensor | None) -> None:
        self.natural, self.leaf = natural, leaf
        self.shift: Tensor | None = None
        self._squares: Tensor | None = None
        if field is None:
            return
        ones = _pushed([natural], [leaf], [torch.ones_like(leaf)])
        self._squares = grad(natural, leaf, ones, retain_graph=True)[0]
        moved = _pushed([natural], [leaf], [self.divided(field)], create_graph=True)[0]
        if moved is None or not (moved - field).norm() <= 1e-3 * field.norm():
            raise ValueError(
                f"a centred gradient would move the bias of {end.layer!r} by another amount at every unit, and its "
                f"parameter of shape {tuple(leaf.shape)} cannot"
            )
        self.shift = moved if moved.requires_grad else None

    def divided(self, field: Tensor) -> Tensor:
        """The change of the parameter that moves the bias by ``field``."""
        if self._squares is None:
            return field
        return grad(self.natural, self.leaf, field, retain_graph=True)[0] / self._squares


def _own_biases(machine: Machine) -> dict[End, Tensor]:
    """For every coupled statistic, the one parameter of its bias that no coupling depends on."""
    for interaction in machine.graph.interactions:
        if len(interaction.ends) > 2:
            raise ValueError(
                f"the coupling of {', '.join(end.layer for end in interaction.ends)} has no centred form: it would need "
                "couplings of two of these layers, which are no parameters"
            )
    couplings = {id(leaf) for leaf in _leaves(machine.weights)}
    own: dict[End, Tensor] = {}
    for end in dict.fromkeys(end for interaction in machine.graph.interactions for end in interaction.ends):
        free = [leaf for leaf in _leaves([machine.biases[end.layer][end.statistic]]) if id(leaf) not in couplings]
        name = f"the bias of {end.layer!r} for {machine.graph.layers[end.layer].statistics[end.statistic]}"
        if len(free) != 1:
            raise ValueError(
                f"a centred gradient moves biases along with the couplings, and {name} depends on {len(free) or 'no'} trained "
                "parameters of its own; it needs one"
            )
        if any(leaf is free[0] for leaf in own.values()):
            raise ValueError(
                f"a centred gradient moves every bias by itself, and {name} shares its parameter with another"
            )
        own[end] = free[0]
    return own


def _pushed(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], tangents: Sequence[Tensor], create_graph: bool = False
) -> list[Tensor | None]:
    """The derivatives of the outputs along tangents of the inputs; None for outputs that do not depend on any.

    That of the pullback of an output by its cotangent, in which it is linear.
    """
    known = {id(leaf): tangent for leaf, tangent in zip(inputs, tangents, strict=True)}
    mapped = [t for t in outputs if t.grad_fn is not None]
    if mapped:
        probes = [torch.zeros_like(t).requires_grad_() for t in mapped]
        pulled = grad(mapped, inputs, probes, create_graph=True, allow_unused=True)
        pairs = [(p, t) for p, t in zip(pulled, tangents, strict=True) if p is not None]
        rows, columns = [p for p, _ in pairs], [t for _, t in pairs]
        pushed = grad(rows, probes, columns, create_graph=create_graph, materialize_grads=True)
        known |= {id(t): change for t, change in zip(mapped, pushed, strict=True)}
    return [known.get(id(t)) for t in outputs]


def _leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The leaves of autograd that tensors depend on."""
    leaves = {id(t): t for t in tensors if t.is_leaf and t.requires_grad}
    nodes, seen = [t.grad_fn for t in tensors if t.grad_fn is not None], set()
    while nodes:
        node = nodes.pop()
        if node not in seen:
            seen.add(node)
            if (leaf := getattr(node, "variable", None)) is not None:
                leaves[id(leaf)] = leaf
            nodes += [following for following, _ in node.next_functions if following is not None]
    return list(leaves.values())
