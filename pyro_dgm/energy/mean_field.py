"""Mean field: a factorial distribution of some layers, given the states of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..checks import check_count
from .graph import Block
from .machine import Clamp, Machine, placed

Natural = tuple[Tensor, ...]

STILL = 1 / 30
"""In units of the square root of rounding, the largest move of a mean at which rounds end: 1e-5 in single precision. A bound of
mean field is stationary in the means, so that it is off by the square of that."""


@dataclass(frozen=True)
class MeanField:
    """A factorial distribution of the layers that were not given.

    Attributes:
        statistics: the flat mean statistics of these layers, with known entries at their values.
        parts: their blocks, each with its natural parameters and means after the last round, shaped as its atoms.
        machine: the machine.
    """

    statistics: dict[str, Natural]
    parts: tuple[tuple[Block, Natural, Natural], ...]
    machine: Machine

    @property
    def naturals(self) -> dict[str, Natural]:
        """The natural parameters of every layer without couplings inside it, shaped as the layer."""
        return {block.layer: eta for block, eta, _ in self.parts if block.atoms is None}

    @cached_property
    def entropy(self) -> Tensor:
        """The entropy in nats, one per row, as if no entry were known."""
        total: Tensor | float = 0.0
        for block, eta, means in self.parts:
            dims = self.machine.atom_dims(block)
            # Natural parameters may lack the rows' dimensions; their products with the means have them.
            inner = sum((e * m).flatten(-dims).sum(-1) for e, m in zip(eta, means, strict=True))
            total = total + self.machine.log_partition(block, eta) - inner
        return torch.as_tensor(total)


def mean_field(
    machine: Machine,
    fixed: Mapping[str, Tensor],
    rounds: int = 10,
    start: Mapping[str, Natural] | None = None,
    known: Clamp | None = None,
) -> MeanField:
    r"""The factorial distribution of the layers outside ``fixed`` by the fixed-point equations (20.33-34); differentiable.

    The fields of the fixed layers are computed once; rounds go colour by colour. Where no gradient is recorded and units have
    finitely many states, rounds end once the first layer's means stand still in every row (``STILL``): in trained machines on
    digits after eight. A row's result depends on the other rows by no more than what is then left to move.

    Args:
        machine: the bound graph.
        fixed: the layers that are given, ``rows x layer shape``.
        rounds: how often every mean is computed anew, at most.
        start: flat mean statistics to start from; by default those of the biases alone.
        known: ``{layer: (mask, value)}``: layers known in part, both ``rows x layer shape``; known entries stand at their
            values in place of their means.

    Raises:
        ValueError: there is a layer known in part, and some layer is coupled within itself; or a negative number of rounds.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> bool((mean_field(rbm().machine, {"visible": x}, 1).statistics["hidden"][0] > 0).all())
        True
    """
    if known and any(block.atoms is not None for colour in machine.colours for block in colour):
        raise ValueError(
            "mean field with entries known in part needs layers without couplings inside them; use a kernel with a clamp instead"
        )
    if strange := sorted((known or {}).keys() - (machine.graph.layers.keys() - fixed.keys())):
        raise ValueError(
            f"known names {strange}; expected layers of {sorted(machine.graph.layers.keys() - fixed.keys())}"
        )
    values = {layer: machine.statistics({layer: value})[layer] for layer, (_, value) in (known or {}).items()}
    masks = {layer: machine.flat(layer, (mask,))[0] for layer, (mask, _) in (known or {}).items()}

    def with_known(layer: str, means: Natural) -> Natural:
        if layer not in values:
            return means
        return tuple(torch.where(masks[layer], v, m) for v, m in zip(values[layer], means, strict=True))

    statistics = dict(machine.statistics(fixed))
    free = [layer for layer in machine.graph.layers if layer not in fixed]
    parts = []
    for layer in free:
        eta = machine.shaped(Block(layer), machine.biases[layer])
        shaped = machine.graph.layers[layer].mean(*eta)
        parts.append((Block(layer), eta, shaped))
        statistics[layer] = with_known(layer, machine.flat(layer, shaped) if start is None else start[layer])
    outer, conditioned = _conditioned(machine, free, statistics)
    watched = None if torch.is_grad_enabled() else _watched(machine, free)
    for number in range(check_count("rounds", rounds, 0)):
        parts, before = [], None if watched is None else statistics[watched]
        for block in (block for colour in machine.colours for block in colour if block.layer not in fixed):
            layer = block.layer
            eta = conditioned.fields(block, statistics, skip=outer)
            means = machine.graph.layers[layer].mean(*eta)
            parts.append((block, eta, means))
            if block.entries is None:
                statistics[layer] = with_known(layer, machine.flat(layer, means))
            else:
                new = (m.flatten(-machine.graph.layers[layer].event_dim) for m in means)
                statistics[layer] = tuple(
                    placed(old.expand(*n.shape[:-1], old.shape[-1]), block.entries, n)
                    for old, n in zip(statistics[layer], new, strict=True)
                )
        if watched is not None and before is not None and 0 < number < rounds - 1:
            if _stand_still(before, statistics[watched]):
                break
    rows = [x.shape[: x.dim() - machine.graph.layers[layer].event_dim] for layer, x in fixed.items()]
    # Means that do not depend on the data yet have no dimension of rows.
    means_by_layer = {
        layer: tuple(t.expand(*torch.broadcast_shapes(t.shape[:-1], *rows), t.shape[-1]) for t in statistics[layer])
        for layer in free
    }
    return MeanField(means_by_layer, tuple(parts), machine)


def _watched(machine: Machine, free: Sequence[str]) -> str | None:
    """The first free layer that rounds compute, if it is computed as a whole and no layer has real-valued units."""
    block = next((b for colour in machine.colours for b in colour if b.layer in free), None)
    finite = all(machine.graph.layers[layer].states_per_atom is not None for layer in free)
    return block.layer if block is not None and block.atoms is None and finite else None


def _stand_still(before: Natural, after: Natural) -> bool:
    """Whether no mean has moved far."""
    limit = STILL * math.sqrt(torch.finfo(after[0].dtype).eps)
    return all(bool((b - a).abs_().amax() <= limit) for b, a in zip(before, after, strict=True))


def _conditioned(
    machine: Machine, free: Sequence[str], statistics: Mapping[str, Natural]
) -> tuple[frozenset[int], Machine]:
    """The interactions between a free and a fixed layer, and the machine with their fields added to its biases."""
    outer = set()
    biases = {layer: list(layer_biases) for layer, layer_biases in machine.biases.items()}
    for number, interaction in enumerate(machine.graph.interactions):
        ends = [end.layer in free for end in interaction.ends]
        if sum(ends) == 1:
            outer.add(number)
            position = ends.index(True)
            end = interaction.ends[position]
            field = interaction.field(position, statistics, machine.weights[number])
            biases[end.layer][end.statistic] = biases[end.layer][end.statistic] + field
    return frozenset(outer), machine.rebound({layer: tuple(layer_biases) for layer, layer_biases in biases.items()})


def free_energy_bound(machine: Machine, fixed: Mapping[str, Tensor], rounds: int = 10) -> Tensor:
    r"""$E_q[E] - H(q) \ge F$ of given layers by mean field (20.35), in nats: one figure per row.

    A function of the parameters at the posterior q that is found; at a fixed point its gradient is that of the bound.

    Args:
        machine: the bound graph.
        fixed: the layers that are given, ``rows x layer shape``.
        rounds: rounds of mean field.
    """
    with torch.no_grad():
        posterior = mean_field(machine, fixed, rounds)
        entropy = posterior.entropy
    return -machine.value({**machine.statistics(fixed), **posterior.statistics}) - entropy
