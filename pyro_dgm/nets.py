"""Neural-network bodies shared by several models."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

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
