"""The parameters of a Boltzmann machine, checked against its graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..checks import described, shown
from .distribution import NoNormaliser
from .graph import Graph
from .interactions import Interaction
from .normaliser import improper

HALVES = {torch.float16, torch.bfloat16}
"""The types that ``torch.autocast`` makes of some parameters, beside others in their own."""


def check_shapes(graph: Graph, biases: Mapping[str, tuple[Tensor, ...]], weights: Sequence[Tensor]) -> None:
    """Refuse parameters of other numbers or shapes than the graph has; what is no tensor fails, for ``blame_parameters``."""
    if len(biases) != len(graph.layers):
        raise ValueError(f"biases got the layers {list(biases)}; expected those of the graph, {list(graph.layers)}")
    for layer, unit in graph.layers.items():
        if isinstance(entry := biases[layer], Tensor) or len(entry) != len(unit.statistics):
            raise ValueError(
                f"the biases of {layer!r} got {described(entry)}; expected a tuple with a tensor for each of "
                f"{list(unit.statistics)}"
            )
        for name, bias in zip(unit.statistics, entry, strict=True):
            if bias.shape[bias.dim() - unit.event_dim :] != unit.shape:
                raise ValueError(
                    f"the bias of {layer!r} for {name} has shape {tuple(bias.shape)}; "
                    f"its last dimensions must be {tuple(unit.shape)}"
                )
    if isinstance(weights, Tensor):
        raise ValueError(f"weights got {described(weights)}; expected a tuple with a tensor for each interaction")
    if len(weights) != len(graph.interactions):
        raise ValueError(f"got {len(weights)} weights; the graph has {len(graph.interactions)} interactions")
    for interaction, shape, weight in zip(graph.interactions, graph.weight_shapes, weights, strict=True):
        if weight.shape[weight.dim() - len(shape) :] != shape:
            raise ValueError(
                f"the weight between {ends_of(interaction)} has shape {tuple(weight.shape)}; its last dimensions must be "
                f"{tuple(shape)}"
            )


def blame_parameters(graph: Any, biases: Any, weights: Any, error: Exception) -> None:
    """Raise an error that says what is wrong with the parts that no machine could be made of; return where nothing is."""
    if not isinstance(graph, Graph):
        raise ValueError(
            f"graph got {shown(graph)}; expected a Graph, as in Graph({{'visible': Binary(4)}}, [])"
        ) from error
    if not isinstance(biases, Mapping):
        raise ValueError(
            f"biases got {shown(biases)}; expected tuples of tensors by layer, {list(graph.layers)}"
        ) from error
    if lacking := [layer for layer in graph.layers if layer not in biases]:
        raise ValueError(f"biases got none of {lacking}; expected those of all layers, {list(graph.layers)}") from error
    if not isinstance(weights, list | tuple):
        raise ValueError(
            f"weights got {shown(weights)}; expected a tuple with a tensor for each interaction"
        ) from error
    named = [(f"the biases of {layer!r}", biases[layer]) for layer in graph.layers] + [("weights", weights)]
    for name, entry in named:
        for part in entry if isinstance(entry, list | tuple) else [entry]:
            if not isinstance(part, Tensor):
                raise ValueError(f"{name} got {described(part)}; expected a tuple of tensors") from error
    if isinstance(error, RuntimeError):
        shapes = {name: [tuple(part.shape) for part in entry] for name, entry in named}
        raise ValueError(f"parameters got shapes {shapes}; expected batches in front that broadcast") from error


def check_values(graph: Graph, biases: Mapping[str, tuple[Tensor, ...]], weights: Sequence[Tensor]) -> None:
    """Refuse parameters that are no real numbers of one type, without a normaliser, or couplings that are not symmetric."""
    kinds = {part.dtype for entry in (*biases.values(), weights) for part in entry}
    if len(kinds - HALVES) > 1 or not all(kind.is_floating_point for kind in kinds):
        raise ValueError(
            f"the parameters are of {', '.join(sorted(map(str, kinds)))}; expected floating-point numbers of one type"
        )
    for layer, unit in graph.layers.items():
        if reason := unit.check(*biases[layer]):
            raise NoNormaliser(f"layer {layer!r} has no normaliser: {reason}")
    for interaction, weight in zip(graph.interactions, weights, strict=True):
        if reason := interaction.check(weight):
            raise ValueError(f"the weight between {ends_of(interaction)} is not allowed: {reason}")
    if reason := improper(graph, biases, weights):
        raise NoNormaliser(f"biases and weights have no normaliser: {reason}")


def ends_of(interaction: Interaction) -> str:
    """The layers of an interaction, for messages."""
    return " and ".join(end.layer for end in interaction.ends)
