"""The raw parameters of a torch Boltzmann machine as NumPy copies; no torch mathematics is used."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..energy import Binary, BoltzmannDistribution, Dense, Lateral, Sparse, Spin

_LOW: dict[type, int] = {Binary: 0, Spin: -1}


class FlatParameters(NamedTuple):
    """The machine over one vector of units, the visible ones first.

    ``bias`` is ``units``, ``coupling`` is ``units x units``, and ``low`` has for every unit its value other than 1.
    """

    bias: NDArray[Any]
    coupling: NDArray[Any]
    visible: int
    low: tuple[int, ...]


def flat_parameters(dist: BoltzmannDistribution) -> FlatParameters:
    r"""$b$ and $J$ of $-E(x) = b^\top x + \frac12 x^\top J x$, in double precision.

    Raises:
        ValueError: other units or interactions than those known here, a batch shape, or a unit coupled to itself.

    Example:
        >>> import pyro_dgm as dgm
        >>> flat_parameters(dgm.RBM(3, 2)()).coupling.shape
        (5, 5)
    """
    if not isinstance(dist, BoltzmannDistribution):
        raise ValueError(f"got {type(dist).__name__}; expected a BoltzmannDistribution, as rbm() returns it")
    if dist.batch_shape or dist.parameter_batch_shape:
        raise ValueError(
            f"got a distribution of batch_shape {tuple(dist.batch_shape)}; expected (), a single machine. Convert the "
            "machines one by one, or expand the NumPyro distribution afterwards"
        )
    graph, machine = dist.machine.graph, dist.machine
    for name, unit in graph.layers.items():
        if type(unit) not in _LOW:
            raise ValueError(f"the layer {name!r} got {unit}; expected Binary or Spin units. Use the torch engine")
    names = [dist.visible, *(name for name in graph.layers if name != dist.visible)]
    sizes = {name: graph.layers[name].shape.numel() for name in names}
    where, total = {}, 0
    for name in names:
        where[name] = slice(total, total + sizes[name])
        total += sizes[name]
    bias, coupling = np.empty(total), np.zeros((total, total))
    for name in names:
        bias[where[name]] = _numpy(machine.biases[name][0])
    for interaction, tensor in zip(graph.interactions, machine.weights, strict=True):
        weight = _numpy(tensor)
        first, second = (where[end.layer] for end in interaction.ends)
        if type(interaction) is Dense:
            coupling[first, second] += weight
            coupling[second, first] += weight.T
        elif type(interaction) is Lateral:
            if np.diagonal(weight).any():
                raise ValueError(
                    f"the Lateral weight of {interaction.ends[0].layer!r} got a non-zero diagonal; expected zeros. "
                    "Put the diagonal into the bias"
                )
            coupling[first, first] += weight + weight.T
        elif type(interaction) is Sparse:
            i, j = (interaction.edges.cpu().numpy() + np.array([first.start, second.start])).T
            np.add.at(coupling, (i, j), weight)
            np.add.at(coupling, (j, i), weight)
        else:
            raise ValueError(f"got the interaction {type(interaction).__name__}; expected Dense, Lateral or Sparse")
    low = tuple(_LOW[type(graph.layers[name])] for name in names for _ in range(sizes[name]))
    return FlatParameters(bias, coupling, sizes[dist.visible], low)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().double().numpy())
