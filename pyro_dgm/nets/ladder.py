"""Layers of weights that are used upwards and downwards, as autoencoders and stochastic networks use them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_counts
from .bodies import ACTIVATIONS


class Ladder(nn.Module):
    r"""Affine maps between neighbouring layers in both directions: $h W_l + b_l$ upwards, $h V_l$ downwards.

    With ``tied`` weights $V_l = W_l^\top$. Weights start uniform on $\pm\sqrt{6 / (\mathrm{in} + \mathrm{out})}$, biases at
    zero.

    Args:
        sizes: the units of all layers, the lowest first.
        tied: one matrix for both directions.

    Raises:
        ValueError: fewer than two layers, or a number below one.

    Example:
        >>> Ladder((4, 3)).down(1, torch.zeros(2, 3)).shape
        torch.Size([2, 4])
    """

    def __init__(self, sizes: Sequence[int], tied: bool = True) -> None:
        super().__init__()
        self.sizes = check_counts("sizes", sizes, "the units of at least two layers", "(784, 200)", fewest=2)
        self.tied = tied
        pairs = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        self.weights = nn.ParameterList(_uniform(low, high) for low, high in pairs)
        self.downs = None if tied else nn.ParameterList(_uniform(high, low) for low, high in pairs)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in self.sizes)

    def up(self, layer: int, below: Tensor) -> Tensor:
        """What a layer, from 1, gets from the one below it, with its bias: ``... x units``."""
        return below @ self.weights[layer - 1] + self.biases[layer]

    def down(self, layer: int, values: Tensor) -> Tensor:
        """What the layer below gets from a layer, from 1, without a bias."""
        return values @ (self.weights[layer - 1].t() if self.downs is None else self.downs[layer - 1])

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}, tied={self.tied}"


class TiedAutoencoder(nn.Module):
    """An encoder and a decoder that share their weights; the last layer is linear: ``rows x columns`` to the same.

    Args:
        sizes: the units of all layers, the columns first.
        activation: the non-linearity of hidden layers.

    Example:
        >>> TiedAutoencoder((4, 3), "sigmoid")(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, sizes: Sequence[int], activation: str) -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        self.ladder, self.nonlinear = Ladder(sizes), ACTIVATIONS[activation]()

    def encode(self, x: Tensor) -> Tensor:
        """The code of rows."""
        for layer in range(1, len(self.ladder.sizes)):
            x = self.nonlinear(self.ladder.up(layer, x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        h = self.encode(x)
        for layer in range(len(self.ladder.sizes) - 1, 0, -1):
            h = self.ladder.down(layer, h) + self.ladder.biases[layer - 1]
            h = self.nonlinear(h) if layer > 1 else h
        return h


def _uniform(inputs: int, outputs: int) -> nn.Parameter:
    width = math.sqrt(6 / (inputs + outputs))
    return nn.Parameter((2 * torch.rand(inputs, outputs) - 1) * width)
