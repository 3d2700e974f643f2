"""Restricted Boltzmann machine of rows and their classes, section 20.8."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_columns, check_count
from ...energy import Binary, BoltzmannDistribution, Categorical, Dense, Graph
from ..shared.examples import bits, seeded
from ..shared.labelled import LabelledModel


class ClassRBM(LabelledModel):
    r"""Restricted Boltzmann machine whose hidden units see a row and its class (Larochelle and Bengio 2008).

    $-E(x, y, h) = b^\top x + c^\top h + d^\top y + x^\top W h + y^\top U h$ with a one-hot y (20.8), so that
    $p(y \mid x) \propto \exp\big(d_y + \sum_j \mathrm{softplus}(c_j + U_{yj} + (x^\top W)_j)\big)$ is exact at the cost of one
    pass per class. All in nats.

    Rows hold the visible columns and then a one-hot label. ``machine()`` is a distribution of the visible columns; ``model(x)``
    has the sites ``"x"`` and ``"label"``.

    Args:
        visible: the number of visible units, without the label.
        classes: the number of classes.
        hidden: the number of hidden units.

    Attributes:
        weight: $W$, ``visible x hidden``.
        label_weight: $U$, ``classes x hidden``.
        visible_bias, hidden_bias, label_bias: $b$, ``visible``; $c$, ``hidden``; $d$, ``classes``.

    Raises:
        ValueError: a number of units below one, or fewer than two classes.

    Larochelle and Bengio (2008), "Classification using discriminative restricted Boltzmann machines".

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> machine = dgm.ClassRBM(visible=6, classes=3, hidden=4)
        >>> machine.predict_proba(torch.zeros(2, 6)).shape
        torch.Size([2, 3])
    """

    def __init__(self, visible: int, classes: int = 10, hidden: int = 500) -> None:
        super().__init__()
        visible, hidden = check_columns(visible), check_count("hidden", hidden, what="the number of hidden units")
        classes = check_count("classes", classes, 2, "the number of classes")
        self.visible, self.classes, self.hidden = visible, classes, hidden
        layers = {"visible": Binary(visible), "hidden": Binary(hidden), "label": Categorical(1, classes)}
        self._graph = Graph(layers, [Dense("visible", "hidden"), Dense("label", "hidden")])
        self.weight = nn.Parameter(0.01 * torch.randn(visible, hidden))
        self.label_weight = nn.Parameter(0.01 * torch.randn(classes, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.label_bias = nn.Parameter(torch.zeros(classes))

    def forward(self) -> BoltzmannDistribution:
        """The distribution of the visible layer."""
        biases = {
            "visible": (self.visible_bias,),
            "hidden": (self.hidden_bias,),
            "label": (self.label_bias.unsqueeze(0),),
        }
        return BoltzmannDistribution(self._graph, biases, (self.weight, self.label_weight))

    def label_scores(self, x: Tensor) -> Tensor:
        fields = F.linear(x, self.weight.mT, self.hidden_bias).unsqueeze(-2) + self.label_weight
        visible = (x @ self.visible_bias).unsqueeze(-1)
        return visible + self.label_bias + F.softplus(fields).sum(-1)

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "classes": self.classes, "hidden": self.hidden}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(
            lambda: cls(visible=5, classes=3, hidden=4),
            lambda: torch.cat([bits(10, 5), torch.eye(3)[torch.randint(0, 3, (10,))]], 1),
            scale=0.7,
        )
