"""The graph of a Boltzmann machine: unit layers, interactions, and a proper colouring of their atoms."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .colouring import checked_colouring, colour
from .graph_parts import couplings, pairs, units
from .interactions import Dense, Interaction, Multiway
from .units import Binary, Gaussian, Unit


class Block(NamedTuple):
    """Atoms of one layer that do not interact: all of them, or those in ``atoms``.

    ``entries`` are the same atoms as columns of the flat statistics.
    """

    layer: str
    atoms: Tensor | None = None
    entries: Tensor | None = None


Colour = tuple[Block, ...]


class Graph:
    """The layers of a machine and their couplings, without parameters.

    Args:
        layers: units by name, in the order of a picture: the visible layer first.
        interactions: couplings between (or within) those layers.
        colouring: for every layer the colour of its atoms, one whole number or one per atom; coupled atoms must differ. Colours
            are drawn in the order of their numbers, those with visible units last. By default a colouring is found.
        joint: pairs (switch, switched) of layers that mix slowly one after the other: a sweep draws the switch with the other
            summed out, and then the other. The switch is a single finite unit, or has one beside every unit of the other.

    Raises:
        ValueError: no units by name, or no couplings; an interaction names a layer that the graph lacks, or does not fit its
            layers; a colouring that does not fit the layers, or gives coupled atoms one colour.

    Example:
        >>> from pyro_dgm.energy import Binary, Dense
        >>> graph = Graph({"visible": Binary(4), "hidden": Binary(3)}, [Dense("visible", "hidden")])
        >>> [[block.layer for block in colour] for colour in graph.colours]
        [['hidden'], ['visible']]
    """

    def __init__(
        self,
        layers: Mapping[str, Unit],
        interactions: Iterable[Interaction],
        colouring: Mapping[str, int | Sequence[int] | Tensor] | None = None,
        joint: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.layers, self.joint = units(layers), pairs(joint)
        self._on_device: dict[torch.device, tuple[Colour, ...]] = {}
        self.interactions = couplings(interactions)
        for interaction in self.interactions:
            for end in interaction.ends:
                if end.layer not in self.layers:
                    raise ValueError(f"an interaction names the layer {end.layer!r}; there are {list(self.layers)}")
                if not 0 <= end.statistic < len(self.layers[end.layer].statistics):
                    raise ValueError(
                        f"an interaction names statistic {end.statistic} of layer {end.layer!r}, "
                        f"which has {list(self.layers[end.layer].statistics)}"
                    )
            if len(interaction.ends) > 2 and len({end.layer for end in interaction.ends}) < len(interaction.ends):
                raise ValueError(
                    f"an interaction of more than two ends names {[end.layer for end in interaction.ends]}; expected layers that "
                    "all differ"
                )
        for interaction in self.interactions:
            for end in interaction.ends:
                unit = self.layers[end.layer]
                if interaction.pairs(self.layers) is None and len({e.layer for e in interaction.ends}) > 1:
                    continue
                if unit.event_dim - unit.inner_dim > 1:
                    raise ValueError(
                        f"layer {end.layer!r} of shape {tuple(unit.shape)} has couplings unit by unit; "
                        f"give it one dimension of atoms, as in {type(unit).__name__}({unit.atoms})"
                    )
        self.weight_shapes = tuple(i.weight_shape(self.layers) for i in self.interactions)
        self.touching = {
            name: [
                (number, position)
                for number, interaction in enumerate(self.interactions)
                for position in _positions(interaction, name)
            ]
            for name in self.layers
        }
        self._colouring = None if colouring is None else checked_colouring(self.layers, self.interactions, colouring)
        for switch, switched in self.joint.items():
            self._check_joint(switch, switched)

    def _check_joint(self, switch: str, switched: str) -> None:
        """Refuse a pair that cannot be drawn as one block."""
        if not {switch, switched} <= set(self.layers) or switch == switched:
            raise ValueError(f"joint got {(switch, switched)}; expected two of the layers {list(self.layers)}")
        unit, other = self.layers[switch], self.layers[switched]
        between = [i for i in self.interactions if {switch, switched} <= {end.layer for end in i.ends}]
        beside = unit.atoms == other.atoms and all(i.beside(switch, switched) for i in between)
        if unit.states_per_atom is None or not (unit.atoms == 1 or beside):
            raise ValueError(
                f"joint got the switch {switch!r} of {unit!r} for {switched!r} of {other!r}; expected a single finite "
                "unit, or finite units of which each is coupled to the one beside it alone"
            )
        for name in (switch, switched):
            alone = [colour for colour in self.colours if any(block.layer == name for block in colour)]
            if len(alone) != 1 or (name == switch and len(alone[0]) != 1):
                raise ValueError(
                    f"joint got {(switch, switched)}, but {name!r} shares its colour with other layers or is coupled within "
                    "itself; expected a switch with a colour of its own"
                )

    def at(self, **origins: Tensor) -> Graph:
        """The same graph, with the squares of some real-valued layers about other origins (``Gaussian.at``).

        Raises:
            ValueError: a layer that is not Gaussian, or one whose units are coupled to one another.
        """
        other = copy.copy(self)
        # Found once, for all origins.
        other.colouring, other.colours = self.colouring, self.colours
        other.layers = dict(self.layers)
        for layer, origin in origins.items():
            unit = self.layers.get(layer)
            whole = all(block.atoms is None for colour in self.colours for block in colour if block.layer == layer)
            if not isinstance(unit, Gaussian) or not whole:
                raise ValueError(
                    f"{layer!r} has no origin; expected a layer of Gaussian units that do not act on one another"
                )
            other.layers[layer] = unit.at(origin)
        return other

    def block(self, layer: str, atoms: Tensor | None = None) -> Block:
        """The block of some atoms of a layer (all of them by default)."""
        if atoms is None:
            return Block(layer)
        unit = self.layers[layer]
        inner = unit.shape.numel() // unit.atoms
        entries = atoms if inner == 1 else (atoms[:, None] * inner + torch.arange(inner)).reshape(-1)
        return Block(layer, atoms, entries)

    @cached_property
    def colouring(self) -> dict[str, Tensor]:
        """The number of every atom's colour, by layer."""
        return colour(self.layers, self.interactions) if self._colouring is None else self._colouring

    @cached_property
    def colours(self) -> tuple[Colour, ...]:
        """Blocks that can be drawn together, as few as the colouring has; those with visible units come last."""
        colouring = self.colouring
        visible = next(iter(self.layers))
        count = max(int(c.max()) for c in colouring.values()) + 1
        colours = []
        for number in range(count):
            blocks = []
            for layer, by_atom in colouring.items():
                atoms = (by_atom == number).nonzero().view(-1)
                if len(atoms):
                    blocks.append(self.block(layer, None if len(atoms) == len(by_atom) else atoms))
            colours.append(tuple(blocks))
        colours.sort(key=lambda colour: any(block.layer == visible for block in colour))
        for switch, switched in self.joint.items():
            first, second = (
                next((c for c in colours if any(b.layer == name for b in c)), None) for name in (switch, switched)
            )
            if first is not None and second is not None and first is not second:
                colours.remove(first)
                colours.insert(colours.index(second), first)
        return tuple(colours)

    def colours_on(self, device: torch.device) -> tuple[Colour, ...]:
        """The colours with their indices on a device."""
        if device not in self._on_device:
            self._on_device[device] = tuple(
                tuple(Block(b.layer, *(None if t is None else t.to(device) for t in b[1:])) for b in colour)
                for colour in self.colours
            )
        return self._on_device[device]

    def size(self, colour: Colour) -> int:
        """The number of atoms in a colour."""
        return sum(self.layers[b.layer].atoms if b.atoms is None else len(b.atoms) for b in colour)

    @cached_property
    def summed(self) -> int:
        """The number of the colour that is best summed out: the one with the most atoms, and the first of equals."""
        sizes = [self.size(colour) for colour in self.colours]
        return sizes.index(max(sizes))

    @cached_property
    def paired_bits(self) -> bool:
        """Whether the graph is two flat layers of bits and one dense matrix between them."""
        flat = all(type(unit) is Binary and unit.event_dim == 1 for unit in self.layers.values())
        return flat and len(self.layers) == 2 and [type(i) for i in self.interactions] == [Dense]


def as_multiway(interaction: Interaction) -> Multiway:
    """A coupling that can be left with fewer ends; raises ``TypeError`` for another."""
    if not isinstance(interaction, Multiway):
        raise TypeError(
            f"{type(interaction).__name__} has {len(interaction.ends)} ends; expected a subclass of Multiway, as couplings of "
            "three layers or more are"
        )
    return interaction


def _positions(interaction: Interaction, layer: str) -> list[int]:
    """The ends of an interaction at a layer; the field at one end of a lateral one stands for both, since it is symmetric."""
    return [p for p, end in enumerate(interaction.ends) if end.layer == layer and end not in interaction.ends[:p]]
