"""Moments, entropy and the list of states of a layer, by exact sums."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .enumeration import DRAWN, layer_states, log_sum
from .integration import NotEnumerable
from .machine import Machine
from .units import Gaussian, Unit


def mean_and_variance(
    machine: Machine, layer: str, known: Mapping[str, Tensor], batch: torch.Size
) -> tuple[Tensor, Tensor]:
    r"""$E[x]$ and $\mathrm{Var}[x]$ of a layer's entries given other layers, ``batch x layer shape``.

    Mean statistics are the derivatives of $\log Z$ by the layer's biases, so that it is enough that log Z can be summed. They
    are taken in double precision, since the variance is a difference.

    Args:
        machine: the bound graph.
        layer: its name.
        known: the given layers.
        batch: the batch shape of parameters and given layers, or a larger one.

    Raises:
        NotEnumerable: log Z cannot be summed, or the layer's statistics do not give its moments.
    """
    unit = machine.graph.layers[layer]
    if unit.statistics[0] != "x":
        raise NotEnumerable(f"the statistics of {unit} do not give its mean; average draws")
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        doubled = {name: tuple(b.double() for b in biases) for name, biases in machine.biases.items()}
        probes = [
            torch.zeros(*batch, b.shape[-1], dtype=b.dtype, device=b.device, requires_grad=True) for b in doubled[layer]
        ]
        doubled[layer] = tuple(b + probe for b, probe in zip(doubled[layer], probes, strict=True))
        moved = machine.rebound(doubled)
        moved.weights = tuple(w.double() for w in machine.weights)
        log_z = log_sum(moved, {name: x.double() for name, x in known.items()})
        means = torch.autograd.grad(log_z.sum(), probes, create_graph=recorded)
    variance = unit.variance(*means) if isinstance(unit, Gaussian) else _of_two_values(unit, means[0])
    like = machine.biases[layer][0]
    return tuple(t.to(like).view(*batch, *unit.shape) for t in (means[0], variance))  # type: ignore[return-value]


def _of_two_values(unit: Unit, mean: Tensor) -> Tensor:
    r"""The variance of entries with two values, from their mean: $(b - E[x]) (E[x] - a)$."""
    values = unit.atom_states(mean.detach()).unique()
    if len(values) != 2:
        raise NotEnumerable(
            f"the entries of {unit} have {len(values)} values, so that their mean does not give their variance"
        )
    a, b = values
    return (b - mean) * (mean - a)


def listable(unit: Unit) -> bool:
    """Whether a layer has few enough states to list them all, at most $2^{16}$."""
    count = unit.states_per_atom
    return count is not None and unit.atoms * math.log2(count) <= DRAWN


def listed(machine: Machine, layer: str) -> Tensor:
    """All states of a layer, ``states x layer shape``.

    Raises:
        NotEnumerable: they cannot be listed, or are too many.
    """
    unit = machine.graph.layers[layer]
    if not listable(unit):
        count = "real-valued entries" if unit.states_per_atom is None else f"more than 2^{DRAWN} states"
        raise NotEnumerable(f"the layer {layer!r}, {unit}, has {count}, which cannot be listed; use draws")
    return layer_states(machine, layer)
