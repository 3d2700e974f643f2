"""Neural-network bodies that several models share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_count, check_counts

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus}
_SHAPE = "height and width of a picture, or channels before them"
"""The form of a picture's shape, for messages."""


def mlp(sizes: Sequence[int], activation: str = "tanh") -> nn.Sequential:
    """A multilayer perceptron with a linear last layer.

    Args:
        sizes: the numbers of units of all layers, the input first.
        activation: the non-linearity between layers: tanh, relu, silu or softplus.

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
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


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


class Convolutions(nn.Module):
    """A map from flattened pictures to features: 3x3 convolutions of stride 2, each followed by a non-linearity.

    ``batch_shape x pixels`` to ``batch_shape x features``, for any batch shape. Pixels are in the order channels, height,
    width. Every convolution halves the sides; halves of odd sides are rounded up.

    Args:
        shape: height and width of a picture, or channels, height and width.
        channels: the output channels of every convolution.
        activation: the non-linearity: tanh, relu, silu or softplus.

    Attributes:
        features: the number of features.

    Raises:
        ValueError: no picture's shape, no convolution, or an unknown activation.

    Example:
        >>> import torch
        >>> body = Convolutions((5, 7), (4, 8))
        >>> body.features, body(torch.zeros(3, 2, 35)).shape
        (32, torch.Size([3, 2, 32]))
    """

    def __init__(self, shape: Sequence[int], channels: Sequence[int] = (32, 64), activation: str = "relu") -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        sizes = picture_sizes(shape, channels)
        self.shape, self.features = sizes[0], math.prod(sizes[-1])
        layers: list[nn.Module] = []
        for (inputs, *_), (outputs, *_) in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.reshape(-1, *self.shape)).reshape(*x.shape[:-1], self.features)


class TransposedConvolutions(nn.Module):
    """A map from features to flattened pictures, the reverse of ``Convolutions`` by transposed convolutions (20.10.6).

    ``batch_shape x features`` to ``batch_shape x pixels``, for any batch shape. The last layer is linear; it has one bias per
    pixel rather than per channel, so that it can hold the pixels' means.

    Args:
        shape: height and width of a picture, or channels, height and width.
        channels: the channels of ``Convolutions``, in the same order: those next to the picture first.
        activation: the non-linearity: tanh, relu, silu or softplus.

    Attributes:
        features: the number of features.
        bias: one number per pixel.

    Raises:
        ValueError: no picture's shape, no convolution, or an unknown activation.

    Example:
        >>> import torch
        >>> body = TransposedConvolutions((5, 7), (4, 8))
        >>> body(torch.zeros(3, 2, body.features)).shape
        torch.Size([3, 2, 35])
    """

    def __init__(self, shape: Sequence[int], channels: Sequence[int] = (32, 64), activation: str = "relu") -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        sizes = picture_sizes(shape, channels)
        self.shape, self.features = sizes[-1], math.prod(sizes[-1])
        layers: list[nn.Module] = []
        for number in range(len(channels), 0, -1):
            (inputs, *_), (outputs, *sides) = sizes[number], sizes[number - 1]
            # A side of n becomes 2n - 1; an even one needs a pixel more.
            padding = (1 - sides[0] % 2, 1 - sides[1] % 2)
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=padding, bias=number > 1),
                ACTIVATIONS[activation](),
            ]
        self.layers = nn.Sequential(*layers[:-1])
        self.bias = nn.Parameter(torch.zeros(math.prod(sizes[0])))

    def forward(self, features: Tensor) -> Tensor:
        pictures = self.layers(features.reshape(-1, *self.shape))
        return pictures.reshape(*features.shape[:-1], len(self.bias)) + self.bias


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
