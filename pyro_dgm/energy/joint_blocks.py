"""Blocks drawn jointly: a switch with the units that it switches summed out, and then these units given the switch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from .graph import Block, Graph

Statistics = Mapping[str, tuple[Tensor, ...]]
Fields = Callable[..., tuple[Tensor, ...]]
"""As ``Machine.fields``: a block's natural parameters from statistics, with some interactions left out by ``skip``."""


def marginal_fields(
    graph: Graph, fields: Fields, switch: str, switched: str, statistics: Statistics
) -> tuple[Tensor, ...]:
    r"""Natural parameters of a switch given all layers but the switched one, which is summed out.

    For every state $s_k$ of a switch's atom, $L_k = \langle\eta_s, T(s_k)\rangle + \sum_t A_t(\eta_t(s_k))$ over the switched
    atoms t that it reaches: all of them where the switch is a single atom, else the one beside it. All atoms of the switch are
    set to one state at once, so that it takes as many fields as an atom has states.

    Args:
        graph: the layers and couplings.
        fields: the fields of the machine.
        switch: a layer of finite units.
        switched: the layer that is summed out.
        statistics: flat statistics of all other layers.
    """
    unit, other = graph.layers[switch], graph.layers[switched]
    touching = frozenset(
        number
        for number, interaction in enumerate(graph.interactions)
        if {switch, switched} <= {end.layer for end in interaction.ends}
    )
    own = tuple(
        e.flatten(-unit.event_dim).unflatten(-1, (unit.atoms, -1))
        for e in fields(Block(switch), statistics, skip=touching)
    )
    states = unit.atom_states(own[0])
    vectors = tuple(
        t.reshape(len(states), -1)
        for t in unit.T(states.view(len(states), *unit.shape[unit.event_dim - unit.inner_dim :]))
    )
    logits = []
    for number in range(len(states)):
        everywhere = tuple(t[number].repeat(unit.atoms) for t in vectors)
        sums = other.A(*fields(Block(switched), {**statistics, switch: everywhere}))
        sums = sums.flatten(other.inner_dim - other.event_dim)
        reached = sums.sum(-1, keepdim=True) if unit.atoms == 1 else sums
        logits.append(reached + sum(e @ t[number] for e, t in zip(own, vectors, strict=True)))
    natural = _natural(torch.stack(torch.broadcast_tensors(*logits), -1), vectors)
    return tuple(e.flatten(-2).unflatten(-1, unit.shape) for e in natural)


def _natural(logits: Tensor, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The natural parameters under which an atom's states have these log-weights, up to a constant."""
    wide = torch.cat([*vectors, torch.ones_like(vectors[0][:, :1])], -1)
    solved = logits @ torch.linalg.pinv(wide).mT
    return solved[..., :-1].split([t.shape[-1] for t in vectors], -1)
