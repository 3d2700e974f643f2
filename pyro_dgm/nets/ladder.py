"""Layers of weights that are used upwards and downwards, as autoencoders and stochastic networks use them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_choice, check_count, check_counts
from .bodies import ACTIVATIONS, check_kernel
from .layers import first_affine


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
        weight, bias = self.weights[layer - 1], self.biases[layer]
        return first_affine(below, weight, bias) if layer == 1 else F.linear(below, weight.t(), bias)

    def down(self, layer: int, values: Tensor) -> Tensor:
        """What the layer below gets from a layer, from 1, without a bias."""
        return values @ (self.weights[layer - 1].t() if self.downs is None else self.downs[layer - 1])

    def bias(self, layer: int) -> Tensor:
        """The bias of a layer, from 0, with an entry per unit."""
        return self.biases[layer]

    def width(self, layer: int) -> int:
        """The units of a layer, from 0."""
        return self.sizes[layer]

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}, tied={self.tied}"


class SequenceLadder(nn.Module):
    r"""A ladder whose layers are sequences of frames: convolutions along them upwards, and their transposes downwards.

    A layer's values are ``... x (frames units)``, frame after frame; weights and biases are shared by all frames. Beyond the ends
    there are zeros.

    Args:
        sizes: the units of a frame in all layers, the lowest first.
        frames: the number of frames.
        kernel: the frames that a unit sees in the layer below, odd.
        tied: one filter for both directions.

    Raises:
        ValueError: fewer than two layers, a number below one, or an even kernel.

    Example:
        >>> ladder = SequenceLadder((4, 3), frames=5, kernel=3)
        >>> ladder.down(1, ladder.up(1, torch.zeros(2, 20))).shape
        torch.Size([2, 20])
    """

    def __init__(self, sizes: Sequence[int], frames: int, kernel: int, tied: bool = True) -> None:
        super().__init__()
        self.sizes = check_counts("sizes", sizes, "the units of at least two layers", "(20, 64)", fewest=2)
        self.frames, self.kernel, self.tied = check_count("frames", frames), check_kernel(kernel), tied
        pairs = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        self.weights = nn.ParameterList(self._filters(low, high) for low, high in pairs)
        self.downs = None if tied else nn.ParameterList(self._filters(low, high) for low, high in pairs)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in self.sizes)

    def _filters(self, low: int, high: int) -> nn.Parameter:
        width = math.sqrt(6 / ((low + high) * self.kernel))
        return nn.Parameter((2 * torch.rand(high, low, self.kernel) - 1) * width)

    def _channels(self, values: Tensor) -> Tensor:
        return values.reshape(-1, self.frames, values.shape[-1] // self.frames).transpose(1, 2)

    def _flat(self, channels: Tensor, like: Tensor) -> Tensor:
        return channels.transpose(1, 2).reshape(*like.shape[:-1], -1)

    def up(self, layer: int, below: Tensor) -> Tensor:
        """What a layer, from 1, gets from the one below it, with its bias: ``... x (frames units)``."""
        half = self.kernel // 2
        found = F.conv1d(self._channels(below), self.weights[layer - 1], self.biases[layer], padding=half)
        return self._flat(found, below)

    def down(self, layer: int, values: Tensor) -> Tensor:
        """What the layer below gets from a layer, from 1, without a bias."""
        filters = (self.weights if self.downs is None else self.downs)[layer - 1]
        found = F.conv_transpose1d(self._channels(values), filters, padding=self.kernel // 2)
        return self._flat(found, values)

    def bias(self, layer: int) -> Tensor:
        """The bias of a layer, from 0, with an entry per unit of every frame."""
        return self.biases[layer].repeat(self.frames)

    def width(self, layer: int) -> int:
        """The units of a layer, from 0, of all frames."""
        return self.frames * self.sizes[layer]

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}, frames={self.frames}, kernel={self.kernel}, tied={self.tied}"


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
