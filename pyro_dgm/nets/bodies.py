"""Neural-network bodies that several models share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_count, check_counts
from .layers import BatchNorm, InputLinear, UnPool

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
}
_SHAPE = "height and width of a picture, or channels before them"
"""The form of a picture's shape, for messages."""


def mlp(sizes: Sequence[int], activation: str = "tanh", normalise: bool = False) -> nn.Sequential:
    """A multilayer perceptron with a linear last layer.

    Args:
        sizes: the numbers of units of all layers, the input first.
        activation: the non-linearity between layers: tanh, relu, silu, softplus, sigmoid or leaky_relu.
        normalise: put batch normalisation before every non-linearity.

    Raises:
        ValueError: fewer than two layers, or an unknown activation.

    Example:
        >>> mlp((4, 8, 2))[-1]
        Linear(in_features=8, out_features=2, bias=True)
    """
    sizes = check_counts("sizes", sizes, "the units of at least two layers", "(784, 200, 10)", fewest=2)
    check_choice("activation", activation, ACTIVATIONS)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        affine = nn.Linear if layers else InputLinear
        layers += [affine(inputs, outputs), *_normalised(normalise, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[: -2 if normalise else -1])


def picture_sizes(shape: Sequence[int], channels: Sequence[int]) -> list[tuple[int, int, int]]:
    """Channels, height and width before and after every stride-2 convolution; halves of odd sides are rounded up.

    Args:
        shape: height and width of a picture, or channels, height and width.
        channels: the output channels of every convolution.

    Raises:
        ValueError: no picture's shape, no convolution, or a number below one.

    Example:
        >>> picture_sizes((28, 28), (32, 64))
        [(1, 28, 28), (32, 14, 14), (64, 7, 7)]
    """
    *first, height, width = check_counts("shape", shape, _SHAPE, "(28, 28)", fewest=2)
    if len(first) > 1:
        raise ValueError(f"shape got {shape!r}; expected {_SHAPE}")
    sizes = [(first[0] if first else 1, height, width)]
    for n in check_counts("channels", channels, "the channels of every convolution", "(32, 64)"):
        sizes.append((n, (sizes[-1][1] + 1) // 2, (sizes[-1][2] + 1) // 2))
    return sizes


def check_kernel(kernel: int) -> int:
    """The side of the filters; an odd number.

    Raises:
        ValueError: an even one.
    """
    if check_count("kernel", kernel, what="the side of the filters") % 2 == 0:
        raise ValueError(f"kernel got {kernel}; expected an odd side, so that filters have a middle")
    return kernel


def _normalised(normalise: bool, features: int) -> list[nn.Module]:
    return [BatchNorm(features)] if normalise else []


class Convolutions(nn.Module):
    """A map from flattened pictures to features: convolutions of stride 2, each followed by a non-linearity.

    ``batch_shape x pixels`` to ``batch_shape x features``, for any batch shape. Pixels are in the order channels, height,
    width. Every convolution halves the sides; halves of odd sides are rounded up.

    Args:
        shape: height and width of a picture, or channels, height and width.
        channels: the output channels of every convolution.
        activation: the non-linearity: tanh, relu, silu, softplus, sigmoid or leaky_relu.
        kernel: the side of the filters, odd.
        normalise: put batch normalisation before every non-linearity but the first.

    Attributes:
        features: the number of features.

    Raises:
        ValueError: no picture's shape, no convolution, an even kernel, or an unknown activation.

    Example:
        >>> import torch
        >>> body = Convolutions((5, 7), (4, 8))
        >>> body.features, body(torch.zeros(3, 2, 35)).shape
        (32, torch.Size([3, 2, 32]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        activation: str = "relu",
        kernel: int = 3,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        check_kernel(kernel)
        sizes = picture_sizes(shape, channels)
        self.shape, self.features = sizes[0], math.prod(sizes[-1])
        layers: list[nn.Module] = []
        for number, ((inputs, *_), (outputs, *_)) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            layers += [
                nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2),
                *_normalised(normalise and number > 0, outputs),
                ACTIVATIONS[activation](),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.reshape(-1, *self.shape)).reshape(*x.shape[:-1], self.features)


class TransposedConvolutions(nn.Module):
    """A map from features to flattened pictures, the reverse of ``Convolutions`` by transposed convolutions (20.10.6).

    ``batch_shape x features`` to ``batch_shape x pixels``, for any batch shape. The last layer is linear; it has one bias per
    pixel rather than per channel, so that it can hold the pixels' means. With ``unpool`` every step is un-pooling and then a
    convolution: the same family of maps, with filters turned round.

    Args:
        shape: height and width of a picture, or channels, height and width.
        channels: the channels of ``Convolutions``, in the same order: those next to the picture first.
        activation: the non-linearity: tanh, relu, silu, softplus, sigmoid or leaky_relu.
        kernel: the side of the filters, odd.
        normalise: put batch normalisation before every non-linearity.
        unpool: un-pool and convolve.

    Attributes:
        features: the number of features.
        bias: one number per pixel.

    Raises:
        ValueError: no picture's shape, no convolution, an even kernel, or an unknown activation.

    Example:
        >>> import torch
        >>> body = TransposedConvolutions((5, 7), (4, 8))
        >>> body(torch.zeros(3, 2, body.features)).shape
        torch.Size([3, 2, 35])
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        activation: str = "relu",
        kernel: int = 3,
        normalise: bool = False,
        unpool: bool = False,
    ) -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        check_kernel(kernel)
        sizes = picture_sizes(shape, channels)
        self.shape, self.features = sizes[-1], math.prod(sizes[-1])
        layers: list[nn.Module] = []
        for number in range(len(channels), 0, -1):
            (inputs, *_), (outputs, *sides) = sizes[number], sizes[number - 1]
            # A side of n becomes 2n - 1; an even one needs a pixel more.
            more = (1 - sides[0] % 2, 1 - sides[1] % 2)
            layers += [
                *_doubled(inputs, outputs, kernel, more, unpool, bias=number > 1),
                *_normalised(normalise and number > 1, outputs),
                ACTIVATIONS[activation](),
            ]
        self.layers = nn.Sequential(*layers[:-1])
        self.bias = nn.Parameter(torch.zeros(math.prod(sizes[0])))

    def forward(self, features: Tensor) -> Tensor:
        pictures = self.layers(features.reshape(-1, *self.shape))
        return pictures.reshape(*features.shape[:-1], len(self.bias)) + self.bias


def _doubled(
    inputs: int, outputs: int, kernel: int, more: tuple[int, int], unpool: bool, bias: bool
) -> list[nn.Module]:
    """The layers that double the sides of pictures, less one where ``more`` has 0."""
    half = kernel // 2
    if not unpool:
        return [nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding=half, output_padding=more, bias=bias)]
    crop = nn.ZeroPad2d((0, more[1] - 1, 0, more[0] - 1))
    return [UnPool(2), crop, nn.Conv2d(inputs, outputs, kernel, padding=half, bias=bias)]


def classifier(layers: Sequence[tuple[Tensor, Tensor]], classes: int, dropout: float = 0.0) -> nn.Sequential:
    """A network of sigmoid layers with given weights and biases, followed by a fresh linear layer to class scores.

    Args:
        layers: weight, ``inputs x units``, and bias of every hidden layer.
        classes: the number of classes.
        dropout: the share of hidden units dropped in training.

    Raises:
        ValueError: fewer than two classes.

    Example:
        >>> import torch
        >>> classifier([(torch.zeros(4, 3), torch.zeros(3))], 2)(torch.zeros(1, 4)).shape
        torch.Size([1, 2])
    """
    check_count("classes", classes, 2, "the number of classes")
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(*weight.shape)
        linear.weight.data.copy_(weight.t())
        linear.bias.data.copy_(bias)
        modules += [linear, nn.Sigmoid(), *([nn.Dropout(dropout)] if dropout else [])]
    last = nn.Linear(len(layers[-1][1]), classes)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*modules, last)
