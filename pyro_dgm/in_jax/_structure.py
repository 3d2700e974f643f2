"""A torch machine read for JAX: the graph as plain hashable data, and copies of the parameters as NumPy arrays."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..energy import Binary, BoltzmannDistribution, Categorical, Dense, Gaussian, Lateral, Sparse, SpikeSlab, Spin

_UNITS: dict[type, str] = {
    Binary: "binary",
    Spin: "spin",
    Categorical: "categorical",
    Gaussian: "gaussian",
    SpikeSlab: "spike and slab",
}
_COUPLINGS: dict[type, str] = {Dense: "dense", Lateral: "lateral", Sparse: "sparse"}


WIDEST = 32
"""The number of neighbours up to which a block's flow is a table, each row of which is compiled by itself."""


class Layer(NamedTuple):
    """A layer: its name, the kind of its units, its shape and the number of entries of an atom."""

    name: str
    kind: str
    shape: tuple[int, ...]
    inner: int

    @property
    def atoms(self) -> int:
        """The number of atoms."""
        return math.prod(self.shape) // self.inner


class Coupling(NamedTuple):
    """An interaction: its kind, and the layer and statistic at either end."""

    kind: str
    ends: tuple[tuple[str, int], tuple[str, int]]


class Structure(NamedTuple):
    """The graph without its numbers. Two machines of the same structure and shapes share their compiled code.

    ``colours`` lists for every colour its blocks: a layer's name, and the place of the block's atoms in
    ``Arrays.atoms``, or None for the whole layer.
    """

    visible: str
    layers: tuple[Layer, ...]
    couplings: tuple[Coupling, ...]
    colours: tuple[tuple[tuple[str, int | None], ...], ...]

    def layer(self, name: str) -> Layer:
        """The layer of that name."""
        return next(layer for layer in self.layers if layer.name == name)

    def touching(self, name: str) -> list[tuple[int, int]]:
        """The number and the end of every coupling at a layer; a coupling with itself counts once for both ends."""
        return [
            (number, end)
            for number, coupling in enumerate(self.couplings)
            for end in range(2)
            if coupling.ends[end][0] == name and coupling.ends[end] not in coupling.ends[:end]
        ]


class Table(NamedTuple):
    """The sources of a sparse coupling's flow into a block: for each of the block's entries the neighbours and their edges.

    Both are ``degree x entries``. A slot without a neighbour has the number of edges, which stands for a weight of zero.
    """

    sources: Any
    edges: Any


class Flow(NamedTuple):
    """A flow edge by edge, where degrees differ too much for a ``Table``: source, target and number of every edge."""

    sources: Any
    targets: Any
    edges: Any


class Arrays(NamedTuple):
    """The numbers of a machine.

    ``biases`` holds for every layer its natural parameters, flat; ``weights`` one array per coupling, ``edges`` the
    index pairs of sparse ones (None for others), ``atoms`` the atoms of the blocks that are no whole layers, and ``flows`` for
    every block and coupling a ``Table`` or ``Flow`` where the coupling is sparse and touches the block. ``origins`` are those
    of Gaussian layers that have one, flat.
    """

    biases: dict[str, tuple[Any, ...]]
    weights: tuple[Any, ...]
    edges: tuple[Any, ...]
    atoms: tuple[Any, ...]
    flows: dict[str, Any]
    origins: dict[str, Any]


def read(dist: BoltzmannDistribution) -> tuple[Structure, Arrays]:
    """Structure and parameters of a torch machine; the parameters are copies in double precision.

    Raises:
        ValueError: units or interactions without a counterpart in JAX, a batch shape, or a unit coupled to itself.

    Example:
        >>> import pyro_dgm as dgm
        >>> structure, arrays = read(dgm.RBM(3, 2)())
        >>> structure.colours
        ((('hidden', None),), (('visible', None),))
        >>> arrays.weights[0].shape
        (3, 2)
    """
    if not isinstance(dist, BoltzmannDistribution):
        raise ValueError(f"got {type(dist).__name__}; expected a BoltzmannDistribution, as rbm() returns it")
    if dist.batch_shape or dist.parameter_batch_shape:
        raise ValueError(
            f"got a distribution of batch_shape {tuple(dist.batch_shape)}; expected (), a single machine. Convert the "
            "machines one by one"
        )
    graph, machine = dist.machine.graph, dist.machine
    layers = []
    for name, unit in graph.layers.items():
        if type(unit) not in _UNITS:
            raise ValueError(f"the layer {name!r} has {unit}; expected {_names(_UNITS)} units. Use the torch engine")
        layers.append(Layer(name, _UNITS[type(unit)], tuple(unit.shape), unit.shape.numel() // unit.atoms))
    couplings = []
    for interaction, weight in zip(graph.interactions, machine.weights, strict=True):
        if type(interaction) not in _COUPLINGS:
            raise ValueError(
                f"got the interaction {type(interaction).__name__}; expected {_names(_COUPLINGS)}. Use the torch engine"
            )
        if reason := interaction.check(weight):
            raise ValueError(f"the weight of {type(interaction).__name__} is not allowed: {reason}")
        first, second = interaction.ends
        ends = (first.layer, first.statistic), (second.layer, second.statistic)
        couplings.append(Coupling(_COUPLINGS[type(interaction)], ends))
    atoms: list[NDArray[Any]] = []
    colours = []
    for colour in graph.colours:
        blocks = []
        for block in colour:
            blocks.append((block.layer, None if block.atoms is None else len(atoms)))
            if block.atoms is not None:
                atoms.append(block.atoms.cpu().numpy())
        colours.append(tuple(blocks))
    structure = Structure(dist.visible, tuple(layers), tuple(couplings), tuple(colours))
    edges = tuple(i.edges.cpu().numpy() if isinstance(i, Sparse) else None for i in graph.interactions)
    arrays = Arrays(
        {name: tuple(_numpy(b) for b in machine.biases[name]) for name in graph.layers},
        tuple(_numpy(weight) for weight in machine.weights),
        edges,
        tuple(atoms),
        _flows(structure, edges, atoms),
        {
            name: _numpy(unit.origin).reshape(-1)
            for name, unit in graph.layers.items()
            if isinstance(unit, Gaussian) and unit.origin is not None
        },
    )
    return structure, arrays


def flow_name(layer: str, place: int | None, number: int, end: int) -> str:
    """The key in ``Arrays.flows`` of a coupling's flow into a block."""
    return f"{layer} {place} {number} {end}"


def _flows(
    structure: Structure, edges: tuple[NDArray[Any] | None, ...], atoms: list[NDArray[Any]]
) -> dict[str, Table | Flow]:
    flows = {}
    for name, place in (block for colour in structure.colours for block in colour):
        layer = structure.layer(name)
        chosen = np.arange(layer.atoms) if place is None else atoms[place]
        entries = (chosen[:, None] * layer.inner + np.arange(layer.inner)).ravel()
        slot = np.full(layer.atoms * layer.inner, -1)
        slot[entries] = np.arange(len(entries))
        for number, end in structure.touching(name):
            pairs = edges[number]
            if pairs is None:
                continue
            ends = structure.couplings[number].ends
            both = (end, 1 - end) if ends[0] == ends[1] else (end,)
            source = np.concatenate([pairs[:, 1 - into] for into in both])
            target = slot[np.concatenate([pairs[:, into] for into in both])]
            edge = np.tile(np.arange(len(pairs)), len(both))
            keep = target >= 0
            flow = _table(source[keep], target[keep], edge[keep], len(entries), len(pairs))
            flows[flow_name(name, place, number, end)] = flow
    return flows


def _table(source: NDArray[Any], target: NDArray[Any], edge: NDArray[Any], size: int, edges: int) -> Table | Flow:
    degrees = np.bincount(target, minlength=size)
    widest = int(degrees.max(initial=0))
    if widest > WIDEST or widest * size > 2 * len(target) + size:
        return Flow(source, target, edge)
    order = np.argsort(target, kind="stable")
    place = np.arange(len(target)) - (np.cumsum(degrees) - degrees)[target[order]]
    sources, numbers = np.zeros((widest, size), int), np.full((widest, size), edges)
    sources[place, target[order]], numbers[place, target[order]] = source[order], edge[order]
    return Table(sources, numbers)


def _names(known: dict[type, str]) -> str:
    *most, last = (cls.__name__ for cls in known)
    return f"{', '.join(most)} or {last}"


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().double().numpy())
