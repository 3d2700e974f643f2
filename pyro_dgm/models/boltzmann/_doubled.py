"""The machines with which a deep Boltzmann machine is pretrained, layer by layer (20.4.4)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from ...energy import Binary, BoltzmannDistribution, Dense, Graph
from ..shared.boltzmann import BoltzmannModel
from ..shared.examples import bits, seeded
from ..shared.layerwise import Stage


class Repeated(BoltzmannModel):
    r"""A binary RBM with tied copies of its visible or hidden units, for pretraining a deep machine (20.4.4).

    With two visible copies $P(h = 1 \mid v) = \sigma(c + 2 v^\top W)$ and $P(v = 1 \mid h) = \sigma(b + W h)$: the second copy
    stands for the layer above, which brings the other half of the field in the deep machine.
    """

    def __init__(self, visible: int, hidden: int, copies: tuple[int, int] = (1, 1), scale: float = 1.0) -> None:
        super().__init__()
        self.visible, self.hidden, self.copies, self.scale = visible, hidden, tuple(copies), scale
        below, above = visible * copies[0], hidden * copies[1]
        self._graph = Graph({"visible": Binary(below), "hidden": Binary(above)}, [Dense("visible", "hidden")])
        self.weight = nn.Parameter(0.01 * torch.randn(visible, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))

    def forward(self) -> BoltzmannDistribution:
        below, above = self.copies
        biases = {"visible": (self.visible_bias.repeat(below),), "hidden": (self.hidden_bias.repeat(above),)}
        return BoltzmannDistribution(self._graph, biases, (self.scale * self.weight.repeat(below, above),))

    def initialise(self, x: Tensor) -> None:
        with torch.no_grad():
            mean = x.mean(0).unflatten(0, (self.copies[0], self.visible)).mean(0)
            self.visible_bias.copy_(torch.logit(mean, eps=1e-3))

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": self.hidden, "copies": self.copies, "scale": self.scale}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(3, 2, (2, 1)), lambda: bits(5, 3).repeat(1, 2))


class Doubled(Protocol):
    """A deep Boltzmann machine, as ``doubled_stages`` sees it."""

    visible: int
    hidden: tuple[int, ...]
    unit: str
    classes: int
    weights: Any
    hidden_biases: Any
    visible_bias: Any
    label_weight: Any
    label_bias: Any


def doubled_stages(dbm: Doubled) -> Iterator[Stage]:
    r"""Yield the machines that pretrain a deep Boltzmann machine (20.4.4; Salakhutdinov and Hinton 2009).

    A unit of the deep machine has input from two sides, and in its stage from one. To make up for it, the lowest stage has
    two tied copies of the visible layer, the top stage two of the hidden layer, and the stages between twice the weights.
    A layer between two stages has the mean of its biases in them: where they agree on its field,
    $2 W_l^\top h_{l-1} + c_l = 2 W_{l+1} h_{l+1} + b_{l+1}$, that is its field in the deep machine.
    Labels join the rows of the top stage as separate bits; the deep machine's label layer, one choice among its classes,
    starts from their weights.

    Raises:
        ValueError: the visible units are not binary.
    """
    if dbm.unit != "binary":
        raise ValueError("pretraining a DBM needs binary visible units; train it with dgm.fit and centred gradients")
    depth = len(dbm.hidden)
    upward: list[Tensor] = []
    for layer, (m, n) in enumerate(zip((dbm.visible, *dbm.hidden[:-1]), dbm.hidden, strict=True)):
        labels = dbm.classes if layer == depth - 1 else 0
        copies = (2 if layer == 0 < depth - 1 else 1, 2 if 0 < layer == depth - 1 else 1)
        machine = Repeated(m + labels, n, copies, 2.0 if 0 < layer < depth - 1 else 1.0)
        yield machine, functools.partial(_doubled_upward, dbm, tuple(upward))
        with torch.no_grad():
            dbm.weights[layer].copy_(machine.weight[:m])
            dbm.hidden_biases[layer].copy_(machine.hidden_bias)
            upward.append(machine.hidden_bias.clone())
            if layer == 0:
                dbm.visible_bias.copy_(machine.visible_bias[:m])
            else:
                dbm.hidden_biases[layer - 1].add_(machine.visible_bias[:m]).div_(2)
            if labels:
                dbm.label_weight.copy_(machine.weight[m:].t())
                dbm.label_bias.copy_(machine.visible_bias[m:])


def restricted_stage(dbm: Doubled) -> Iterator[Stage]:
    """Yield the machine of the two lowest layers alone, undoubled; the layers above keep weights near zero.

    The deep machine then equals that restricted machine, with an exact posterior, and joint training starts at its
    likelihood.

    Raises:
        ValueError: the visible units are not binary, or the machine has labels.
    """
    if dbm.unit != "binary" or dbm.classes:
        raise ValueError(
            "the restricted start needs binary visible units and no labels; use scheme='doubled' with labels"
        )
    machine = Repeated(dbm.visible, dbm.hidden[0])
    yield machine, torch.nn.Identity()
    with torch.no_grad():
        dbm.weights[0].copy_(machine.weight)
        dbm.visible_bias.copy_(machine.visible_bias)
        dbm.hidden_biases[0].copy_(machine.hidden_bias)
        for weight in dbm.weights[1:]:
            weight.mul_(0.1)


def _doubled_upward(dbm: Doubled, biases: Sequence[Tensor], rows: Tensor) -> Tensor:
    """A layer's means on an upward pass with doubled inputs through the stages below it, as visible rows of the next machine.

    Args:
        dbm: the deep machine.
        biases: the hidden biases of the stages below, before they were averaged with those of the stages above.
        rows: rows of the deep machine.
    """
    h, label = rows.split([dbm.visible, rows.shape[-1] - dbm.visible], -1)
    for W, c in zip(dbm.weights, biases, strict=False):
        h = torch.sigmoid(2 * h @ W + c)
    if len(biases) < len(dbm.hidden) - 1:
        return h if biases else h.repeat(1, 2)
    return torch.cat([h, label], -1)
