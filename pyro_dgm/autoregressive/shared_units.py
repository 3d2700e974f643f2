"""The network of NADE: hidden units with shared weights, whose sums take in one column after another (20.83)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_count
from .network import Choose, Network
from .outputs import Output
from .recursion import ACTIVATIONS, recursion


class SharedUnits(Network):
    r"""Numbers $b_i + V_i f(\rho_i (c + \sum_{j<i} W_j x_j))$: the weights $W_j$ of a column are the same for all later ones.

    A row costs O(D h), both in a pass and in a walk along the order. A context shifts $c$ and $b$ linearly.

    Args:
        order: the columns in the order of their conditionals.
        features: numbers that stand for a column's value, F.
        parameters: numbers that the network gives for a column, P.
        hidden: the number of hidden units, h.
        activation: f, ``"sigmoid"`` or ``"relu"``.
        tied: use a column's input weights also for its first number; needs one feature per column.
        rescale: learn $\rho$; else it is one.
        context: columns of the context, C; 0 for none.

    Attributes:
        inputs: W, ``D x F x h``.
        outputs: V, ``D x P x h``; with ``tied`` without the first number's; None where that leaves nothing.
        hidden_bias, bias: c, ``h``, and b, ``D x P``.
        scale: $\rho$, ``D``, or None.

    Raises:
        ValueError: an unknown activation, no hidden units, tied weights with several features per column.
    """

    outputs: nn.Parameter | None
    scale: nn.Parameter | None

    def __init__(
        self,
        order: Sequence[int],
        features: int,
        parameters: int,
        hidden: int,
        activation: str = "sigmoid",
        tied: bool = False,
        rescale: bool = False,
        context: int = 0,
    ) -> None:
        super().__init__(order)
        visible = len(order)
        check_choice("activation", activation, ACTIVATIONS)
        hidden = check_count("hidden", hidden, what="the number of hidden units")
        if tied and features > 1:
            raise ValueError(
                f"tied weights need columns that enter by one number; these enter by {features}. Choose tied=False"
            )
        self.activation, self.tied = activation, tied
        self.inputs = nn.Parameter(torch.randn(visible, features, hidden) / visible**0.5)
        free = parameters - tied
        outputs = nn.Parameter(torch.randn(visible, free, hidden) / hidden**0.5) if free else None
        self.register_parameter("outputs", outputs)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.bias = nn.Parameter(torch.zeros(visible, parameters))
        self.register_parameter("scale", nn.Parameter(torch.ones(visible)) if rescale else None)
        self.hidden_context = nn.Linear(context, hidden, bias=False) if context else None
        self.context = nn.Linear(context, visible * parameters, bias=False) if context else None

    def _outputs(self) -> Tensor:
        weights: list[Tensor] = [
            *([self.inputs] if self.tied else []),
            *([] if self.outputs is None else [self.outputs]),
        ]
        return weights[0] if len(weights) == 1 else torch.cat(weights, 1)

    def _shifted(self, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The biases c and b, shifted by a context: ``batch_shape x h`` and ``batch_shape x D x P``, or without the batch."""
        if context is None or self.hidden_context is None or self.context is None:
            return self.hidden_bias, self.bias
        shift = self.context(context).unflatten(-1, self.bias.shape)
        return self.hidden_bias + self.hidden_context(context), self.bias + shift

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        start, bias = self._shifted(context)
        numbers = recursion(
            features, start, self.inputs, self._outputs(), self.order, scale=self.scale, activation=self.activation
        )
        return numbers + bias

    @torch.no_grad()
    def walk(self, choose: Choose, output: Output, batch: int, context: Tensor | None = None) -> Tensor:
        start, bias = self._shifted(context)
        sums = start.expand(batch, len(self.hidden_bias)).clone()
        bias = bias.expand(batch, *self.bias.shape)
        outputs, squash = self._outputs().mT, ACTIVATIONS[self.activation]
        x = sums.new_zeros(batch, len(self.order))
        for column in self.order.tolist():
            h = squash(sums if self.scale is None else sums * self.scale[column])
            value = choose(column, torch.addmm(bias[:, column], h, outputs[column]))
            x[:, column] = value
            sums.addmm_(output.encode_column(column, value), self.inputs[column])
        return x

    def output_bias(self) -> Tensor:
        return self.bias
