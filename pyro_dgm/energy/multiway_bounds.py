"""How much of real-valued units' precisions couplings of three layers may use up."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .graph import Graph, as_multiway
from .interactions import Interaction, Multiway

LISTED = 12
"""The largest binary logarithm of the number of states of finite units for which forms are decided one by one."""


class NoNormaliser(Exception):
    """The reason why a machine has no normaliser, or why none can be shown."""


def used(graph: Graph, precisions: Mapping[str, Tensor], weights: Sequence[Tensor], alone: bool) -> Tensor | float:
    r"""The share t of the precisions that couplings of three layers or more may use up, for one machine.

    A coupling of two real-valued layers that finite ones gate is bounded by $s\,|\Lambda_a^{1/2} x|\,|\Lambda_b^{1/2} y|$
    (``Multiway.strength``), and so by the same share of both quadratic forms. What is left of these must be a proper machine.
    Where the bound reaches one and there is no other such coupling, the singular values for every state of a finite layer decide.

    Args:
        graph: the layers and couplings.
        precisions: those of the real-valued layers, flat.
        weights: one per interaction, without batch dimensions.
        alone: whether there is no coupling of two layers that is of degree two.

    Raises:
        NoNormaliser: there is none, or none can be shown.
    """
    shares: list[Tensor] = []
    gated = [(i, w) for i, w in zip(graph.interactions, weights, strict=True) if curved(graph, i)]
    for interaction, weight in gated:
        multiway = as_multiway(interaction)
        real = [p for p, end in enumerate(interaction.ends) if end.layer in precisions]
        if reason := _no_form(graph, interaction, real):
            if bool((weight != 0).any()):
                raise NoNormaliser(reason)
            continue
        scales = {p: precisions[interaction.ends[p].layer].rsqrt() for p in real}
        ranges = {p: _range(graph, interaction, p, weight) for p in range(len(interaction.ends)) if p not in real}
        share = multiway.strength(weight, scales, ranges)
        if float(share) >= 1 and alone and len(gated) == 1:
            share = _listed(graph, multiway, weight, scales, ranges)
        shares.append(share)
    total = sum(shares[1:], start=shares[0]) if shares else 0.0
    if float(total) >= 1:
        layers = sorted({end.layer for interaction, _ in gated for end in interaction.ends})
        raise NoNormaliser(
            f"the couplings of {', '.join(layers)} may use up {float(total):.3g} times the precisions of the real-valued layers "
            "among them; expected less than 1. Make these couplings smaller or the precisions larger"
        )
    return total


def curved(graph: Graph, interaction: Interaction) -> bool:
    """Whether a coupling of more than two layers is of degree two or more in real-valued ones."""
    return len(interaction.ends) > 2 and sum(_degree(graph, interaction, p) for p in range(len(interaction.ends))) > 1


def _degree(graph: Graph, interaction: Interaction, position: int) -> int:
    end = interaction.ends[position]
    degrees = graph.layers[end.layer].degrees
    return degrees[end.statistic] if degrees else 0


def _no_form(graph: Graph, interaction: Interaction, real: Sequence[int]) -> str | None:
    names = [interaction.ends[p].layer for p in real]
    if len(real) == 2 and not any(graph.layers[name].gated for name in names):
        if all(_degree(graph, interaction, p) == 1 for p in real):
            return None
    return (
        f"a coupling of three layers or more joins {', '.join(names)} other than as two real-valued layers, each linearly; it "
        "cannot be shown that there is a normaliser. Set its weights to zero"
    )


def _range(graph: Graph, interaction: Interaction, position: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value of every entry of a finite end's statistic."""
    end = interaction.ends[position]
    unit = graph.layers[end.layer]
    atom = unit.T(unit.atom_states(like))[end.statistic]
    low, high = (bound.reshape(-1).repeat(unit.atoms).to(like) for bound in (atom.amin(0), atom.amax(0)))
    return low, high


def _listed(
    graph: Graph,
    multiway: Multiway,
    weight: Tensor,
    scales: Mapping[int, Tensor],
    ranges: Mapping[int, tuple[Tensor, Tensor]],
) -> Tensor:
    """The largest singular value over all states of a single finite end; the bound of before where they are too many."""
    (position, _), *others = ranges.items()
    unit = graph.layers[multiway.ends[position].layer]
    states = unit.atom_states(weight)
    if others or len(states) ** unit.atoms > 2**LISTED:
        return multiway.strength(weight, scales, ranges)
    rows = torch.stack([torch.stack(s).reshape(-1) for s in itertools.product(states, repeat=unit.atoms)])
    statistic = unit.T(rows.view(-1, *unit.shape))[multiway.ends[position].statistic].flatten(1)
    pair, given = multiway.given(position, statistic, weight)
    pair.weight_shape(graph.layers)
    (first, a), (second, b) = scales.items()
    basis = torch.eye(len(a), dtype=weight.dtype, device=weight.device)
    layers = graph.layers[multiway.ends[first].layer], graph.layers[multiway.ends[second].layer]
    statistics = {pair.ends[0].layer: tuple(basis.unsqueeze(1) for _ in layers[0].statistics)}
    matrices = pair.field(1, statistics, given).movedim(0, -2)
    return torch.linalg.svdvals(a.unsqueeze(-1) * matrices * b).max()
