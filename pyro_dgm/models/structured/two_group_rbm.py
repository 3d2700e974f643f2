"""Boltzmann machine with class-relevant and class-irrelevant hidden units, section 20.8."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_columns, check_count
from ...energy import Binary, BoltzmannDistribution, Categorical, Dense, Graph, ThreeWay
from ..shared.examples import bits, seeded
from ..shared.labelled import LabelledModel


class TwoGroupRBM(LabelledModel):
    r"""Machine of rows and classes with two groups of hidden units, of which one alone sees the class (Luo et al. 2011).

    $-E(x, y, h, g) = b^\top x + c^\top g + d^\top y + x^\top U g + \sum_l y_l (B_l^\top h + x^\top W_l h)$ with a one-hot y
    (20.8): h sees the row through a matrix of its own for every class, and g explains the rest of the row. With
    ``order="second"`` h is coupled to pairs, $x^\top W h + y^\top V h + B^\top h$, and the machine is ``dgm.ClassRBM`` with
    hidden units that do not see the class. All in nats.

    Since g has no part in $p(y \mid x)$, a discriminative criterion never trains it.

    Args:
        visible: the number of visible units, without the label.
        classes: the number of classes.
        hidden: units of h.
        free: units of g.
        order: ``"third"`` or ``"second"``.

    Attributes:
        weight: $W$, ``classes x visible x hidden``, or ``visible x hidden``.
        label_weight: with order ``"second"`` $V$, ``classes x hidden``.
        free_weight: $U$, ``visible x free``.
        visible_bias, free_bias, label_bias: $b$, $c$ and $d$.
        hidden_bias: $B$, ``classes x hidden``, or ``hidden``.

    Raises:
        ValueError: a number of units below one, fewer than two classes, another order.

    Luo, Shen, Niu and Ullrich (2011), "Learning class-relevant features and class-irrelevant features via a hybrid third-order
    RBM".

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> machine = dgm.TwoGroupRBM(visible=6, classes=3, hidden=4, free=2)
        >>> machine.predict_proba(torch.zeros(2, 6)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, visible: int, classes: int = 10, hidden: int = 100, free: int = 400, order: str = "third"
    ) -> None:
        super().__init__()
        check_choice("order", order, ("third", "second"))
        visible, classes = check_columns(visible), check_count("classes", classes, 2, "the number of classes")
        hidden, free = (
            check_count("hidden", hidden, what="the units of h"),
            check_count("free", free, what="the units of g"),
        )
        self.visible, self.classes, self.hidden, self.free, self.order = visible, classes, hidden, free, order
        layers = {
            "visible": Binary(visible),
            "hidden": Binary(hidden),
            "free": Binary(free),
            "label": Categorical(1, classes),
        }
        gated = order == "third"
        first = ThreeWay("visible", "hidden", "label") if gated else Dense("visible", "hidden")
        self._graph = Graph(layers, [first, Dense("label", "hidden"), Dense("visible", "free")])
        self.weight = nn.Parameter(0.01 * torch.randn(*([classes] if gated else []), visible, hidden))
        if not gated:
            self.label_weight = nn.Parameter(0.01 * torch.randn(classes, hidden))
        self.free_weight = nn.Parameter(0.01 * torch.randn(visible, free))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(*([classes] if gated else []), hidden))
        self.free_bias = nn.Parameter(torch.zeros(free))
        self.label_bias = nn.Parameter(torch.zeros(classes))

    def forward(self) -> BoltzmannDistribution:
        """The distribution of the visible layer."""
        if self.order == "third":
            hidden = self.hidden_bias.new_zeros(self.hidden)
            weights = (self.weight.permute(1, 2, 0), self.hidden_bias, self.free_weight)
        else:
            hidden, weights = self.hidden_bias, (self.weight, self.label_weight, self.free_weight)
        biases = {"visible": (self.visible_bias,), "hidden": (hidden,), "free": (self.free_bias,),
                  "label": (self.label_bias.unsqueeze(0),)}  # fmt: skip
        return BoltzmannDistribution(self._graph, biases, weights)

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "classes": self.classes,
            "hidden": self.hidden,
            "free": self.free,
            "order": self.order,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(
            lambda: cls(visible=4, classes=3, hidden=3, free=2),
            lambda: torch.cat([bits(10, 4), torch.eye(3)[torch.randint(0, 3, (10,))]], 1),
            scale=0.7,
        )
