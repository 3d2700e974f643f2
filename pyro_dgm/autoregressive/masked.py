"""Networks of masked layers: one pass gives every conditional (Germain et al. 2015; chapter sections 20.10.8-9)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nets import ACTIVATIONS
from .basis import Basis
from .network import Choose, Network, step_by_step
from .outputs import Output


class MaskedLinear(nn.Linear):
    """A linear map some of whose weights are not there.

    Args:
        mask: booleans, ``outputs x inputs``: which weights there are.
        bias: add a bias.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        super().__init__(mask.shape[1], mask.shape[0], bias=bias)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedNetwork(Network):
    r"""Layers between whose units only those weights exist that go from earlier columns to later ones.

    Every hidden unit has a degree d, in 1 to D: it sees the first d columns of the order, and units of degree up to d in
    the layer below. The numbers of the column at place i (from 0) see units of degree up to i: the columns before it
    and nothing else. ``direct`` adds weights from the inputs to the numbers; without hidden layers these are all there is.

    Args:
        order: the columns in the order of their conditionals.
        features: numbers by which a column enters, F.
        parameters: numbers that come out for a column, P.
        degrees: of every unit of every hidden layer.
        activation: the non-linearity: tanh, relu, silu or softplus.
        direct: weights from the inputs to the numbers.
        basis: functions of the columns that are inputs too: see ``Basis``.
        context: columns of the context, C, which every unit and number sees; 0 for none.

    Raises:
        ValueError: no weights at all, a degree outside 1 to D, an unknown activation or basis.
    """

    def __init__(
        self,
        order: Sequence[int],
        features: int,
        parameters: int,
        degrees: Sequence[Sequence[int]] = (),
        activation: str = "relu",
        direct: bool = True,
        basis: str | None = None,
        context: int = 0,
    ) -> None:
        super().__init__(order)
        visible = len(order)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation got {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        if not degrees and not direct:
            raise ValueError("got neither hidden layers nor direct weights; the columns would be independent")
        if any(not 1 <= d <= visible for layer in degrees for d in layer):
            raise ValueError(f"degrees got a value outside 1 to {visible}; a unit sees so many of the first columns")
        self.parameters_per_column = parameters
        self.activation = ACTIVATIONS[activation]()
        self.basis = Basis(basis, self.rank, features)
        seen = self.basis.degrees
        asked = self.rank.repeat_interleave(parameters)
        below, layers, contexts = seen, [], []
        for layer in degrees:
            own = torch.tensor(list(layer))
            layers.append(MaskedLinear(below <= own.unsqueeze(1)))
            below = own
        self.hidden = nn.ModuleList(layers)
        self.bias = nn.Parameter(torch.zeros(visible, parameters))
        if degrees:
            self.last = MaskedLinear(below <= asked.unsqueeze(1), bias=False)
        if direct:
            self.direct = MaskedLinear(seen <= asked.unsqueeze(1), bias=False)
        if context:
            contexts = [nn.Linear(context, len(layer), bias=False) for layer in degrees]
            self.hidden_context = nn.ModuleList(contexts)
            self.context = nn.Linear(context, visible * parameters, bias=False)

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.basis(features)
        numbers = self.direct(x) if hasattr(self, "direct") else x.new_zeros(())
        if len(self.hidden):
            h = x
            for number, layer in enumerate(self.hidden):
                shift = 0.0 if context is None else self.hidden_context[number](context)
                h = self.activation(layer(h) + shift)
            numbers = numbers + self.last(h)
        if context is not None:
            numbers = numbers + self.context(context)
        return self.bias + numbers.unflatten(-1, (-1, self.parameters_per_column))

    def walk(self, choose: Choose, output: Output, batch: int, context: Tensor | None = None) -> Tensor:
        return step_by_step(self, choose, output, batch, context)

    def output_bias(self) -> Tensor:
        return self.bias
