"""Networks of a noisy row and a time, which enters at the read-out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_counts
from .bodies import ACTIVATIONS, check_kernel, mlp, picture_sizes


class Bumps(nn.Module):
    """A time in (0, 1] as shares of overlapping bumps: ``rows`` to ``rows x bumps``.

    Args:
        bumps: the number of bumps.

    Example:
        >>> Bumps(4)(torch.tensor([0.0, 1.0])).shape
        torch.Size([2, 4])
    """

    centres: Tensor

    def __init__(self, bumps: int = 10) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, 1, bumps))

    def forward(self, time: Tensor) -> Tensor:
        width = 1.0 / max(len(self.centres) - 1, 1)
        distance = (time.to(self.centres).unsqueeze(-1) - self.centres) / width
        return torch.softmax(-0.5 * distance.square(), -1)


class TimedReadout(nn.Module):
    """Features are scaled and shifted by functions of the time, and then read out linearly.

    Args:
        features: the number of features.
        outputs: the number of outputs for every row or place.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.bumps = Bumps()
        self.modulation = nn.Linear(len(self.bumps.centres), 2 * features, bias=False)
        self.offset = nn.Linear(len(self.bumps.centres), outputs, bias=False)
        self.linear = nn.Linear(features, outputs)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.linear.weight)  # at first the output is the bias, whatever the row
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """``rows x ... x features`` and ``rows`` to ``rows x ... x outputs``."""
        bumps = self.bumps(time)
        bumps = bumps.view(len(bumps), *[1] * (features.dim() - 2), -1)
        gain, shift = self.modulation(bumps).chunk(2, -1)
        return self.linear(features * (1 + gain) + shift) + self.offset(bumps)


class TimedPerceptron(nn.Module):
    """A multilayer perceptron of a row, read out by a time: ``rows x inputs`` and ``rows`` to ``rows x outputs``.

    Args:
        inputs: the number of columns.
        hidden: units of the hidden layers, at least one layer.
        outputs: the number of outputs.
        activation: the non-linearity.

    Raises:
        ValueError: no hidden layer.

    Example:
        >>> TimedPerceptron(4, (8,), 3)(torch.zeros(2, 4), torch.ones(2)).shape
        torch.Size([2, 3])
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, activation: str = "relu") -> None:
        super().__init__()
        hidden = check_counts("hidden", hidden, "the units of at least one hidden layer", "(500, 500)")
        self.body = nn.Sequential(*mlp((inputs, *hidden), activation), ACTIVATIONS[activation]())
        self.readout = TimedReadout(hidden[-1], outputs)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.readout(self.body(x), time)


class TimedConvolutions(nn.Module):
    """Convolutions at three scales, read out at every pixel by a time (Sohl-Dickstein et al. 2015).

    ``rows x pixels`` and ``rows`` to ``rows x (each * pixels)``.

    Args:
        shape: height and width of a picture, or channels, height and width.
        channels: the channels of the hidden convolutions at every scale.
        each: the number of outputs of a pixel.
        activation: the non-linearity.
        kernel: the side of the filters, odd.

    Raises:
        ValueError: no picture's shape, no channels, or an even kernel.

    Example:
        >>> TimedConvolutions((6, 6), (4,), 2)(torch.zeros(2, 36), torch.ones(2)).shape
        torch.Size([2, 72])
    """

    def __init__(
        self, shape: Sequence[int], channels: Sequence[int], each: int, activation: str = "relu", kernel: int = 3
    ) -> None:
        super().__init__()
        check_kernel(kernel)
        channels = check_counts("channels", channels, "the channels of every convolution", "(32, 32)")
        self.shape, self.each = picture_sizes(shape, (1,))[0], each
        planes = self.shape[0]
        self.scales = nn.ModuleList()
        for _ in range(3):
            layers: list[nn.Module] = []
            for inputs, outputs in zip((planes, *channels[:-1]), channels, strict=True):
                layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), ACTIVATIONS[activation]()]
            self.scales.append(nn.Sequential(*layers))
        self.readout = TimedReadout(3 * channels[-1], each * planes)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        picture = x.reshape(-1, *self.shape)
        found = []
        for level, body in enumerate(self.scales):
            coarse = F.avg_pool2d(picture, 2**level, ceil_mode=True, count_include_pad=False) if level else picture
            found.append(F.interpolate(body(coarse), size=self.shape[1:], mode="nearest"))
        places = torch.cat(found, 1).movedim(1, -1).flatten(1, 2)
        out = self.readout(places, time)  # rows x places x (each * planes)
        planes = self.shape[0]
        return out.unflatten(-1, (self.each, planes)).movedim(1, -1).reshape(len(x), self.each * math.prod(self.shape))
