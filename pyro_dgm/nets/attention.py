"""The attention of DRAW: windows of Gaussian filters that read and write patches of pictures."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

FLOOR = 1e-6
"""Added to the filters' variance, in squared pixels, so that it never vanishes."""


def filterbank(centre: Tensor, stride: Tensor, variance: Tensor, size: int, length: int) -> Tensor:
    r"""Gaussian filters over a line of pixels, equations (19), (20), (25) and (26) of Gregor et al. (2015).

    $F_{ia} \propto \exp\left(-(a - \mu_i)^2 / 2\sigma^2\right)$ over the pixels $a = 1 \ldots A$, with
    $\mu_i = g + (i - N/2 - 1/2)\,\delta$ for $i = 1 \ldots N$. Every filter sums to one, by a softmax: a filter outside
    the picture takes the nearest pixel, and one much narrower than a pixel takes the pixel closest to it.

    Args:
        centre: $g$, in pixels counted from one, ``batch_shape``.
        stride: $\delta$, the pixels between neighbouring filters, ``batch_shape``.
        variance: $\sigma^2$, in squared pixels, above zero, ``batch_shape``.
        size: $N$, the number of filters.
        length: $A$, the number of pixels.

    Returns:
        $F$: ``batch_shape x size x length``.

    Example:
        >>> unit = torch.ones(())
        >>> filterbank(2 * unit, unit, 1e-4 * unit, size=3, length=3)
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    steps = torch.arange(size, dtype=centre.dtype, device=centre.device) - 0.5 * (size - 1)
    pixels = torch.arange(1, length + 1, dtype=centre.dtype, device=centre.device)
    distances = pixels - (centre[..., None] + stride[..., None] * steps)[..., None]
    return torch.softmax(-0.5 * distances.square() / variance[..., None, None], -1)


class Filters(NamedTuple):
    r"""A window at a place in a picture; it reads a patch there, or writes one.

    Attributes:
        rows: $F_Y$, ``batch_shape x N x height``.
        columns: $F_X$, ``batch_shape x N x width``.
        intensity: $\gamma$, ``batch_shape``.
        centre: row and column of the window's middle, in pixels counted from one, ``batch_shape x 2``.
        stride: $\delta$, the distance between neighbouring filters in pixels, ``batch_shape``.
    """

    rows: Tensor
    columns: Tensor
    intensity: Tensor
    centre: Tensor
    stride: Tensor

    def read(self, x: Tensor) -> Tensor:
        r"""The patches $\gamma\, F_Y\, x\, F_X^\top$ of pictures x (27).

        Pictures are ``batch_shape x (height * width)``, patches ``batch_shape x N²``.
        """
        picture = x.unflatten(-1, (self.rows.shape[-1], self.columns.shape[-1]))
        return self.intensity[..., None] * (self.rows @ picture @ self.columns.mT).flatten(-2)

    def write(self, patch: Tensor) -> Tensor:
        r"""The pictures $\gamma^{-1} F_Y^\top\, w\, F_X$ of patches w (29).

        Patches are ``batch_shape x N²``, pictures ``batch_shape x (height * width)``.
        """
        square = patch.unflatten(-1, (self.rows.shape[-2], self.columns.shape[-2]))
        return (self.rows.mT @ square @ self.columns).flatten(-2) / self.intensity[..., None]


class Window(nn.Module):
    r"""An $N \times N$ grid of Gaussian filters that a hidden state moves over pictures (Gregor et al. 2015).

    $(\tilde g_X, \tilde g_Y, \log\sigma^2, \log\tilde\delta, \log\gamma)$ are linear in the state (21); the grid has its centre
    at $g_X = \frac{A+1}{2}(\tilde g_X + 1)$, $g_Y = \frac{B+1}{2}(\tilde g_Y + 1)$ (22-23) and the stride
    $\delta = \frac{\max(A, B) - 1}{N - 1}\,\tilde\delta$ (24), for pictures of $B$ rows and $A$ columns. One filter has no
    stride.

    If all five started at zero, the outermost filters would lie on the outermost pixels, where digits have no ink, and every
    filter would see one pixel. The biases therefore start so that the filters share the picture evenly:
    $\delta = \max(A, B) / N$ and $\sigma = \delta / 2$; $\gamma = 1$ for reading and $\gamma = \delta^{-2}$ for writing, so
    that a patch reaches the canvas at full strength.

    Args:
        size: $N$.
        shape: height and width of the pictures.
        hidden: units of the state.
        writes: whether the window writes patches, instead of reading them.
    """

    def __init__(self, size: int, shape: tuple[int, int], hidden: int, writes: bool) -> None:
        super().__init__()
        self.size, self.shape = size, shape
        self.place = nn.Linear(hidden, 5)
        share = max(shape) / size
        stride = math.log(share / self._widest)
        with torch.no_grad():
            self.place.bias.copy_(
                torch.tensor([0.0, 0.0, 2 * math.log(share / 2), stride, -2 * math.log(share) if writes else 0.0])
            )

    @property
    def _widest(self) -> float:
        """The stride that puts the outermost filters on the outermost pixels."""
        return (max(self.shape) - 1) / max(self.size - 1, 1)

    def forward(self, state: Tensor) -> Filters:
        """The window to which a state, ``batch_shape x hidden``, points."""
        across, down, log_variance, log_stride, log_intensity = self.place(state).unbind(-1)
        height, width = self.shape
        row, column = 0.5 * (height + 1) * (down + 1), 0.5 * (width + 1) * (across + 1)
        stride = self._widest * log_stride.exp()
        variance = log_variance.exp() + FLOOR
        return Filters(
            filterbank(row, stride, variance, self.size, height),
            filterbank(column, stride, variance, self.size, width),
            log_intensity.exp(),
            torch.stack((row, column), -1),
            stride,
        )


class Drawing(NamedTuple):
    """The course of drawing pictures, step by step.

    Attributes:
        means: the canvas after every step as probabilities, ``steps x n x visible``.
        centres: row and column of the middle of the window written to, in pixels counted from zero, ``steps x n x 2``; None
            without attention.
        sizes: the side of that window in pixels, one stride per filter, ``steps x n``; None without attention.
    """

    means: Tensor
    centres: Tensor | None
    sizes: Tensor | None
