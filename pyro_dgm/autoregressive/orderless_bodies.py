"""Bodies of orderless networks: perceptrons, repeated inference and convolutions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_choice, check_count, check_counts
from ..nets.bodies import ACTIVATIONS, picture_sizes
from ..nets.layers import InputLinear
from .orderless import Body, Walk, shift
from .outputs import Output
from .recursion import ACTIVATIONS as RECURSIVE
from .recursion import recursion


class Perceptron(nn.Module):
    """Hidden layers that see the features and masks of all columns, and a linear map to the columns' numbers.

    Args:
        visible: the number of columns, D.
        output: the columns' families.
        hidden: the number of units of every hidden layer.
        activation: the non-linearity.
        context: columns of a context that shifts the first layer's sums; 0 for none.

    Raises:
        ValueError: no hidden layer, a layer without units, or an unknown activation.
    """

    def __init__(self, visible: int, output: Output, hidden: Sequence[int], activation: str, context: int = 0) -> None:
        super().__init__()
        hidden = check_counts("hidden", hidden, example="(500,)")
        check_choice("activation", activation, ACTIVATIONS)
        act = ACTIVATIONS[activation]
        between = [(nn.Linear(below, above), act()) for below, above in itertools.pairwise(hidden)]
        self.visible, self.activation, self.depth = visible, activation, len(hidden)
        self.first = InputLinear(visible * (output.features + 1), hidden[0])
        self.middle = nn.Sequential(act(), *itertools.chain(*between))
        self.last = nn.Linear(hidden[-1], visible * output.parameters, bias=False)
        self.context, self.shift = context, shift(context, hidden[0])

    def forward(self, features: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """``rows x D x F`` and ``rows x D x 1`` to ``rows x D x P``."""
        inputs = torch.cat([features, mask.to(features.dtype)], -1).flatten(-2)
        sums = self.first(inputs)
        if context is not None and self.shift is not None:
            sums = sums + self.shift(context)
        return self.last(self.middle(sums)).unflatten(-1, (self.visible, -1))

    def start(self, context: Tensor | None) -> Tensor:
        """The first layer's sums with no column known: ``h``, or ``rows x h`` with a context."""
        bias = self.first.bias
        return bias if context is None or self.shift is None else bias + self.shift(context)

    @property
    def steps(self) -> Tensor:
        """The change of the first layer's sums by every known column, F rows of W and one of U: ``D x (F + 1) x h``."""
        return self.first.weight.t().reshape(self.visible, -1, self.first.out_features)

    @property
    def rows_out(self) -> Tensor:
        """The last layer's weights by column: ``D x P x h``."""
        return self.last.weight.unflatten(0, (self.visible, -1))


class SubsetPerceptron(Body):
    r"""A perceptron that sees the known columns and the mask that marks them (Uria, Murray and Larochelle 2014).

    The first layer's units see $c + \sum_{j\ \mathrm{known}} (W_j x_j + U_j)$, so that the first layer costs $O(h)$ per
    column of a walk along an order. The layers above are computed anew for every column, the last one for that column
    alone. A single layer of relus goes through ``recursion``.

    Args:
        visible: the number of columns, D.
        output: the columns' families.
        perceptron: the perceptron that sees their features and masks.
    """

    def __init__(self, visible: int, output: Output, perceptron: Perceptron) -> None:
        super().__init__(visible, output, perceptron.context)
        self.perceptron = perceptron

    def predictions(self, features: Tensor, known: Tensor, context: Tensor | None = None) -> list[Tensor]:
        mask = known.expand(features.shape[:-1]).unsqueeze(-1)
        return [self.biases(context) + self.perceptron(torch.where(mask, features, 0.0), mask, context)]

    def begin(self, rows: int, context: Tensor | None = None) -> Walk:
        return _Increments(self, rows, context)

    def along(self, features: Tensor, order: Tensor, context: Tensor | None = None) -> Tensor:
        perceptron = self.perceptron
        if perceptron.depth > 1 or perceptron.activation not in RECURSIVE:
            return super().along(features, order, context)
        inputs, mask, start = perceptron.steps[:, :-1], perceptron.steps[:, -1], perceptron.start(context)
        numbers = recursion(
            features, start, inputs, perceptron.rows_out, order, mask=mask, activation=perceptron.activation
        )
        return self.biases(context) + numbers


class _Increments(Walk):
    def __init__(self, body: SubsetPerceptron, rows: int, context: Tensor | None) -> None:
        perceptron = body.perceptron
        self.middle, self.steps, self.rows_out = perceptron.middle, perceptron.steps, perceptron.rows_out
        self.bias = body.biases(context)
        # A copy: of one row, expand returns the parameter itself.
        self.fields = perceptron.start(context).expand(rows, -1).clone()

    def numbers(self, column: int) -> Tensor:
        return torch.addmm(self.bias[..., column, :], self.middle(self.fields), self.rows_out[column].t())

    def reveal(self, column: int, features: Tensor) -> None:
        seen = F.pad(features, (0, 1), value=1.0)
        if torch.is_grad_enabled():
            self.fields = torch.addmm(self.fields, seen, self.steps[column])
        else:
            self.fields.addmm_(seen, self.steps[column])


class RepeatedInference(Body):
    r"""NADE-k: the unknown columns are filled in k times by the same perceptron (Raiko, Yao, Cho and Bengio 2014).

    Unknown columns start at the data's means, $v^{(0)}$. Each round computes the numbers of all columns from
    $(v^{(t-1)}, m)$ and puts the means that they stand for into the unknown columns; the result is the numbers of round k.

    Args:
        visible: the number of columns, D.
        output: the columns' families.
        perceptron: the perceptron of all rounds.
        rounds: the number of rounds, k.

    Attributes:
        means: the features of unknown columns before the first round, ``D x F``.

    Raises:
        ValueError: no round.
    """

    means: Tensor

    def __init__(self, visible: int, output: Output, perceptron: Perceptron, rounds: int) -> None:
        super().__init__(visible, output, perceptron.context)
        self.perceptron, self.rounds = perceptron, check_count("k", rounds, what="the rounds of inference")
        self.register_buffer("means", self.output.expected(torch.zeros_like(self.bias)).detach())

    def predictions(self, features: Tensor, known: Tensor, context: Tensor | None = None) -> list[Tensor]:
        mask, bias = known.expand(features.shape[:-1]).unsqueeze(-1), self.biases(context)
        value, numbers = torch.where(mask, features, self.means), []
        for number in range(self.rounds):
            numbers.append(bias + self.perceptron(value, mask, context))
            if number + 1 < self.rounds:
                value = torch.where(mask, features, self.output.expected(numbers[-1]))
        return numbers

    def start(self, numbers: Tensor) -> None:
        super().start(numbers)
        self.means.copy_(self.output.expected(numbers))


class SubsetConvolutions(Body):
    """Convolutions that see planes of the known pixels and a plane of the mask (Uria et al. 2016, section 4).

    Every convolution is padded by zeros, so that heights and widths do not change. The last one is linear, with one
    bias per pixel.

    Args:
        visible: the number of columns, D.
        output: the pixels' families.
        shape: height and width of a picture, or channels, height and width.
        channels: the number of channels of every hidden convolution.
        kernel: the side of every convolution, odd.
        activation: the non-linearity.
        residual: add the input to the output of a convolution between equal numbers of channels.
        context: columns of a context that shifts the first convolution's channels; 0 for none.

    Raises:
        ValueError: a shape of another number of pixels, no convolution, an even kernel, or an unknown activation.
    """

    def __init__(
        self,
        visible: int,
        output: Output,
        shape: Sequence[int],
        channels: Sequence[int],
        kernel: int,
        activation: str,
        residual: bool,
        context: int = 0,
    ) -> None:
        super().__init__(visible, output, context)
        self.shape, self.residual = picture_sizes(shape, channels)[0], residual
        if math.prod(self.shape) != visible:
            raise ValueError(f"shape got {tuple(shape)}, which has {math.prod(self.shape)} pixels; expected {visible}")
        if check_count("kernel", kernel, what="an odd side of the convolutions, such as 3") % 2 == 0:
            raise ValueError(f"kernel got {kernel!r}; expected an odd side of the convolutions, such as 3")
        check_choice("activation", activation, ACTIVATIONS)
        planes = [self.shape[0] * (output.features + 1), *channels]
        self.hidden = nn.ModuleList(nn.Conv2d(a, b, kernel, padding="same") for a, b in itertools.pairwise(planes))
        self.activation = ACTIVATIONS[activation]()
        self.last = nn.Conv2d(planes[-1], self.shape[0] * output.parameters, kernel, padding="same", bias=False)
        self.channels_shift = shift(context, planes[1])

    def predictions(self, features: Tensor, known: Tensor, context: Tensor | None = None) -> list[Tensor]:
        mask = known.expand(features.shape[:-1]).unsqueeze(-1)
        inputs = torch.cat([torch.where(mask, features, 0.0), mask.to(features.dtype)], -1)
        h = inputs.unflatten(1, self.shape).movedim(-1, 2).flatten(1, 2)
        channel_shift: Tensor | float = 0.0
        if context is not None and self.channels_shift is not None:
            channel_shift = self.channels_shift(context)[..., None, None]
        for number, layer in enumerate(self.hidden):
            output = self.activation(layer(h) + channel_shift if number == 0 else layer(h))
            h = h + output if self.residual and output.shape == h.shape else output
        numbers = self.last(h).unflatten(1, (self.shape[0], -1)).movedim(2, -1)
        return [self.biases(context) + numbers.flatten(1, 3)]
