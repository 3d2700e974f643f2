"""Replicas of a Boltzmann machine at several inverse temperatures, moved as one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..checks import shown
from ..energy import Clamp, Colour, Machine, State
from ..energy.path import Fields, Natural, TemperedPath
from ..energy.tempered_units import at_each, draw

T = TypeVar("T")

MEMORY = 1000
"""The number of last steps, about, over which swap and acceptance rates are means."""


class Replicas(TemperedPath):
    r"""The machines of a path at several inverse temperatures, one replica at each.

    A state is ``{layer: chains x temperatures x batch_shape x layer shape}``. The products with the weights see chains and
    temperatures as one dimension of rows, and are made once for every use.

    Args:
        machine: the target, at $\beta = 1$.
        base: natural parameters of the product distribution at $\beta = 0$, shaped as every layer.
        betas: inverse temperatures, one dimension.
    """

    def __init__(self, machine: Machine, base: Natural, betas: Tensor) -> None:
        super().__init__(machine, base)
        self.betas = betas.to(next(iter(machine.biases.values()))[0])

    def statistics(self, state: State) -> dict[str, tuple[Tensor, ...]]:
        """Flat statistics with chains and temperatures as one dimension."""
        return {
            layer: tuple(t.flatten(0, 1) for t in statistics)
            for layer, statistics in self.machine.statistics(state).items()
        }

    def draw(
        self,
        colour: Colour,
        fields: Fields,
        state: State,
        statistics: dict[str, tuple[Tensor, ...]],
        clamp: Clamp | None,
        source: Tensor | None = None,
        overwrite: bool = False,
    ) -> None:
        """Draw a colour's blocks given their fields, into ``state``, and update ``statistics`` to match.

        Args:
            colour: of the graph.
            fields: of every block.
            state: of all layers; changed in place.
            statistics: of all layers; changed in place.
            clamp: the known entries.
            source: for every row, the row whose fields it takes, if that is not its own.
            overwrite: whether the new states may take the memory of the fields; not with ``source``.
        """
        for block, block_fields in zip(colour, fields, strict=True):
            layer, base = block.layer, self.base_of(block)
            if clamp is None or layer not in clamp:
                new = draw(self.machine.graph.layers[layer], base, block_fields, self.betas, source, overwrite)
                state[layer] = self.machine.place(block, state[layer], new)
            else:
                eta = at_each(self.betas, base, block_fields, source)
                state[layer] = self.machine.draw_block(block, eta, state[layer], clamp)
            statistics[layer] = self.statistics({layer: state[layer]})[layer]

    def energy_gap_without(self, colour: Colour, statistics: Natural) -> Tensor:
        """The part of D without a colour's units: ``chains x temperatures x batch_shape``."""
        kept, whole = self.machine.without(colour, statistics)
        return self._by_temperature(self.difference.value(kept, whole), statistics)

    def energy_gap(self, colour: Colour, fields: Fields, statistics: Natural) -> Tensor:
        """D of every replica, from the fields of a colour: ``chains x temperatures x batch_shape``."""
        kept, whole = self.machine.without(colour, statistics)
        total = self.difference.value(kept, whole)
        for block, block_fields in zip(colour, fields, strict=True):
            for statistic, field in zip(statistics[block.layer], block_fields, strict=True):
                if block.entries is not None:
                    statistic = statistic.index_select(-1, block.entries)
                total = total + torch.linalg.vecdot(statistic, field.view(statistic.shape))
        return self._by_temperature(total, statistics)

    def _by_temperature(self, values: Tensor, statistics: Natural) -> Tensor:
        shape = leading_shape(statistics)
        values = values if values.shape == shape else values.expand(shape).contiguous()
        return values.view(-1, len(self.betas), *shape[1:])

    def log_partition(self, colour: Colour, fields: Fields) -> Tensor | float:
        """The log-sum over a colour's units at every temperature: ``chains x temperatures x batch_shape``."""
        log_sums = [
            self.machine.log_partition(block, at_each(self.betas, self.base_of(block), block_fields))
            for block, block_fields in zip(colour, fields, strict=True)
        ]
        return sum(log_sums[1:], start=log_sums[0]) if log_sums else 0.0


class Remade(Generic[T]):
    """A value made from tensors, and made anew once one of them has changed or is another one.

    Args:
        make: makes the value.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: tuple[Sequence[Tensor], list[int], T] | None = None

    def __call__(self, *tensors: Tensor) -> T:
        """The value for the tensors as they are now."""
        versions = [tensor._version for tensor in tensors]
        if self._made is not None:
            before, known, value = self._made
            if known == versions and all(a is b for a, b in zip(before, tensors, strict=True)):
                return value
        value = self._make()
        self._made = tensors, versions, value
        return value


def leading_shape(statistics: Natural) -> torch.Size:
    """The sizes of the dimensions in front of flat statistics."""
    return next(iter(statistics.values()))[0].shape[:-1]


def product_base(machine: Machine, base: Natural | None) -> dict[str, tuple[Tensor, ...]]:
    """Natural parameters of the product distribution at beta 0: those of ``base``, and neutral ones for other layers."""
    like = next(iter(machine.biases.values()))[0].detach()
    own = {layer: machine.shaped(machine.graph.block(layer), biases) for layer, biases in machine.biases.items()}
    layers = machine.graph.layers
    named = {} if base is None else base
    if not isinstance(named, Mapping):
        raise ValueError(f"base got {shown(base)}; expected natural parameters by layer, {{layer: (tensor, ...)}}")
    if unknown := set(named) - set(layers):
        raise ValueError(f"base names the layers {sorted(unknown)}; there are {list(layers)}")
    naturals = {}
    for layer, unit in layers.items():
        given = layer in named
        natural = _tensors(layer, named[layer], like) if given else unit.featureless(*own[layer])
        if len(natural) != len(unit.statistics) or any(b.shape != unit.shape for b in natural):
            raise ValueError(
                f"base of {layer!r} has shapes {[tuple(b.shape) for b in natural]}; expected a tuple with one tensor of shape "
                f"{tuple(unit.shape)} for each of {list(unit.statistics)}"
            )
        if not all(bool(b.isfinite().all()) for b in natural):
            raise ValueError(f"base of {layer!r} has entries that are NaN or infinite; expected finite numbers")
        if reason := unit.check(*natural):
            raise ValueError(f"base of {layer!r} has no normaliser: {reason}")
        naturals[layer] = natural
    return naturals


def _tensors(layer: str, natural: Any, like: Tensor) -> tuple[Tensor, ...]:
    try:
        return tuple(torch.as_tensor(b).to(like) for b in natural)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"base of {layer!r} got {shown(natural)}; expected a tuple of tensors") from None


def at_every_temperature(clamp: Clamp | None) -> Clamp | None:
    """A clamp with a dimension for the temperatures after that of the chains."""
    return clamp and {layer: (mask.unsqueeze(1), value.unsqueeze(1)) for layer, (mask, value) in clamp.items()}


def average(tuning: dict[str, Tensor], name: str, value: Tensor, steps: int = 1) -> None:
    """Add the mean of some steps to a running mean, over about the last ``MEMORY`` steps."""
    tuning["steps"] = tuning["steps"] + steps
    weight = (steps / tuning["steps"].clamp_max(MEMORY)).clamp_max(1.0)
    tuning[name] = torch.lerp(tuning[name], value.to(weight), weight)
