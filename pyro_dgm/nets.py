"""Neural-network bodies shared by several models."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus}


def mlp(sizes: Sequence[int], activation: str = "tanh") -> nn.Sequential:
    """A multilayer perceptron with a linear last layer.

    Args:
        sizes: units of every layer, the input's first.
        activation: the non-linearity between them: tanh, relu, silu or softplus.

    Raises:
        ValueError: fewer than two layers, or an unknown activation.

    Example:
        >>> mlp((4, 8, 2))[-1]
        Linear(in_features=8, out_features=2, bias=True)
    """
    if len(sizes) < 2 or any(n < 1 for n in sizes):
        raise ValueError(f"sizes got {tuple(sizes)}; expected at least two positive numbers of units")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation got {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def classifier(layers: Sequence[tuple[Tensor, Tensor]], classes: int, dropout: float = 0.0) -> nn.Sequential:
    """Sigmoid layers from given weights (``inputs x units``) and biases, and a fresh linear layer to class scores.

    Args:
        layers: weight and bias of every hidden layer.
        classes: how many classes.
        dropout: the share of hidden units dropped in training.

    Raises:
        ValueError: fewer than two classes.

    Example:
        >>> import torch
        >>> classifier([(torch.zeros(4, 3), torch.zeros(3))], 2)(torch.zeros(1, 4)).shape
        torch.Size([1, 2])
    """
    if classes < 2:
        raise ValueError(f"classes got {classes}; expected at least 2")
    parts: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(*weight.shape)
        linear.weight.data.copy_(weight.t())
        linear.bias.data.copy_(bias)
        parts += [linear, nn.Sigmoid(), *([nn.Dropout(dropout)] if dropout else [])]
    last = nn.Linear(len(layers[-1][1]), classes)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*parts, last)
