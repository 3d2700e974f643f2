"""Networks of masked layers: one pass gives every conditional (Germain et al. 2015; chapter sections 20.10.8-9)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_choice
from ..nets.bodies import ACTIVATIONS
from .basis import Basis
from .network import Choose, Network
from .outputs import Output

M = TypeVar("M", bound=nn.Module)


class MaskedLinear(nn.Linear):
    """A linear map in which a mask removes some of the weights.

    Args:
        mask: booleans, ``outputs x inputs``: True where a weight exists.
        bias: add a bias.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        super().__init__(mask.shape[1], mask.shape[0], bias=bias)
        self.register_buffer("mask", mask, persistent=False)

    def masked_weight(self) -> Tensor:
        """The weights, zero where the mask removes them."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.masked_weight(), self.bias)


class MaskedNetwork(Network):
    r"""Layers whose weights all lead from earlier columns to later ones.

    Every hidden unit has a degree d, in 1 to D: it sees the first d columns of the order, and units of degree up to d in
    the layer below. The numbers of the column at place i (from 0) see units of degree up to i, and so only the columns
    before it. ``direct`` adds weights from the inputs to the numbers; without hidden layers there are no others.

    A walk along the order computes every unit once, when the columns that it sees are known.

    Args:
        order: the columns in the order of their conditionals.
        features: numbers that stand for a column's value, F.
        parameters: numbers that the network gives for a column, P.
        degrees: the degree of every unit, for every hidden layer.
        activation: the non-linearity: tanh, relu, silu or softplus.
        direct: add weights from the inputs to the numbers.
        basis: functions of the columns that are inputs too: see ``Basis``.
        context: columns of the context, C, which every unit and number sees; 0 for none.

    Raises:
        ValueError: no weights at all, a degree outside 1 to D, an unknown activation or basis.
    """

    degrees: list[Tensor]
    activation: nn.Module
    last: MaskedLinear
    direct: MaskedLinear
    context: nn.Linear
    hidden_context: nn.ModuleList

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
        check_choice("activation", activation, ACTIVATIONS)
        if not degrees and not direct:
            raise ValueError("got neither hidden layers nor direct weights; the columns would be independent")
        self.parameters_per_column = parameters
        self.activation = ACTIVATIONS[activation]()
        self.basis = Basis(basis, visible, features)
        hidden, last, straight = self._masks(self.rank, degrees)
        self.hidden = nn.ModuleList([MaskedLinear(mask) for mask in hidden])
        self.bias = nn.Parameter(torch.zeros(visible, parameters))
        if degrees:
            self.last = MaskedLinear(last, bias=False)
        if direct:
            self.direct = MaskedLinear(straight, bias=False)
        if context:
            self.hidden_context = nn.ModuleList([nn.Linear(context, len(layer), bias=False) for layer in degrees])
            self.context = nn.Linear(context, visible * parameters, bias=False)

    def _masks(self, rank: Tensor, degrees: Sequence[Sequence[int]]) -> tuple[list[Tensor], Tensor, Tensor]:
        """The masks of the hidden layers, of the last layer and of the direct weights."""
        if any(not 1 <= d <= len(rank) for layer in degrees for d in layer):
            raise ValueError(
                f"degrees got a value outside 1 to {len(rank)}; a unit's degree is the number of first columns that it sees"
            )
        place = rank.repeat_interleave(self.parameters_per_column)
        below = inputs = self.basis.degrees(rank)
        self.degrees, hidden = [], []
        for layer in degrees:
            layer_degrees = torch.tensor(list(layer), device=rank.device)
            hidden.append(below <= layer_degrees.unsqueeze(1))
            self.degrees.append(layer_degrees)
            below = layer_degrees
        return hidden, below <= place.unsqueeze(1), inputs <= place.unsqueeze(1)

    def remasked(self, order: Sequence[int], degrees: Sequence[Sequence[int]]) -> Self:
        """The same weights under other masks: a network that shares this network's parameters.

        Args:
            order: the columns in the order of their conditionals.
            degrees: the degree of every unit, for every hidden layer; as many as now.
        """
        other = _twin(self)
        other.set_order(order, self.order.device)
        hidden, last, direct = other._masks(other.rank, degrees)
        other.hidden = nn.ModuleList([_remasked(*pair) for pair in zip(self._layers(), hidden, strict=True)])
        if degrees:
            other.last = _remasked(self.last, last)
        if hasattr(self, "direct"):
            other.direct = _remasked(self.direct, direct)
        return other

    def _layers(self) -> list[MaskedLinear]:
        return [layer for layer in self.hidden if isinstance(layer, MaskedLinear)]

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

    @torch.no_grad()
    def walk(self, choose: Choose, output: Output, batch: int, context: Tensor | None = None) -> Tensor:
        columns = len(self.order)
        x = self.bias.new_zeros(batch, columns)
        features = self.bias.new_zeros(batch, columns, output.features)
        numbers = self.bias.expand(batch, columns, -1)
        weights = [layer.masked_weight() for layer in self._layers()]
        shifts = [layer.bias.unsqueeze(0) for layer in self._layers()]
        if context is not None:
            numbers = numbers + self.context(context).unflatten(-1, numbers.shape[1:])
            shifts = [shift + linear(context) for shift, linear in zip(shifts, self.hidden_context, strict=True)]
        values = [self.bias.new_zeros(batch, len(weight)) for weight in weights]
        units = [[(layer == place).nonzero().flatten() for place in range(columns)] for layer in self.degrees]
        last = self.last.masked_weight().unflatten(0, (columns, -1)) if weights else None
        direct = self.direct.masked_weight().unflatten(0, (columns, -1)) if hasattr(self, "direct") else None
        for place, column in enumerate(self.order.tolist()):
            inputs = below = self.basis(features)
            for weight, shift, value, by_degree in zip(weights, shifts, values, units, strict=True):
                new = by_degree[place]
                if len(new):
                    value[:, new] = self.activation(F.linear(below, weight[new]) + shift[:, new])
                below = value
            column_numbers = numbers[:, column]
            if last is not None:
                column_numbers = column_numbers + F.linear(below, last[column])
            if direct is not None:
                column_numbers = column_numbers + F.linear(inputs, direct[column])
            x[:, column] = choose(column, column_numbers)
            features[:, column] = output.encode_column(column, x[:, column])
        return x

    def output_bias(self) -> Tensor:
        return self.bias


def _twin(module: M) -> M:
    """A copy with the same parameters, whose buffers and modules can be replaced without changing the original."""
    other = copy.copy(module)
    other._buffers, other._modules = dict(module._buffers), dict(module._modules)
    return other


def _remasked(layer: MaskedLinear, mask: Tensor) -> MaskedLinear:
    other = _twin(layer)
    other.mask = mask
    return other
