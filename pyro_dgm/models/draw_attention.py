"""The parts of DRAW: the window of Gaussian filters, the recurrent cell, and the network made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor, nn

FLOOR = 1e-6
"""Added to the filters' variance, in squared pixels, so that it never vanishes."""


def filterbank(centre: Tensor, stride: Tensor, variance: Tensor, size: int, length: int) -> Tensor:
    r"""Gaussian filters over a line of pixels, equations (19), (20), (25) and (26) of Gregor et al. (2015).

    $F_{ia} \propto \exp\left(-(a - \mu_i)^2 / 2\sigma^2\right)$ over the pixels $a = 1 \ldots A$, with
    $\mu_i = g + (i - N/2 - 1/2)\,\delta$ for $i = 1 \ldots N$. Every filter sums to one, by a softmax: one that lies outside
    the picture takes the nearest pixel, one much narrower than a pixel the pixel closest to it.

    Args:
        centre: $g$, in pixels counted from one, ``batch_shape``.
        stride: $\delta$, the pixels between neighbouring filters, ``batch_shape``.
        variance: $\sigma^2$, in squared pixels, above zero, ``batch_shape``.
        size: $N$, the number of filters.
        length: $A$, the number of pixels.

    Returns:
        $F$: ``batch_shape x size x length``.

    Example:
        >>> one = torch.ones(())
        >>> filterbank(2 * one, one, 1e-4 * one, size=3, length=3)
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    steps = torch.arange(size, dtype=centre.dtype, device=centre.device) - 0.5 * (size - 1)
    pixels = torch.arange(1, length + 1, dtype=centre.dtype, device=centre.device)
    distances = pixels - (centre[..., None] + stride[..., None] * steps)[..., None]
    return torch.softmax(-0.5 * distances.square() / variance[..., None, None], -1)


class Filters(NamedTuple):
    r"""A placed window: what reads a patch from a picture, and writes one onto it.

    Attributes:
        rows: $F_Y$, ``batch_shape x N x height``.
        columns: $F_X$, ``batch_shape x N x width``.
        intensity: $\gamma$, ``batch_shape``.
        centre: row and column of the middle, in pixels counted from one, ``batch_shape x 2``.
        stride: $\delta$, in pixels, ``batch_shape``.
    """

    rows: Tensor
    columns: Tensor
    intensity: Tensor
    centre: Tensor
    stride: Tensor

    def read(self, x: Tensor) -> Tensor:
        r"""$\gamma\, F_Y\, x\, F_X^\top$ (27): pictures ``batch_shape x (height * width)`` to ``batch_shape x N²``."""
        picture = x.unflatten(-1, (self.rows.shape[-1], self.columns.shape[-1]))
        return self.intensity[..., None] * (self.rows @ picture @ self.columns.mT).flatten(-2)

    def write(self, patch: Tensor) -> Tensor:
        r"""$\gamma^{-1} F_Y^\top\, w\, F_X$ (29): patches ``batch_shape x N²`` to ``batch_shape x (height * width)``."""
        square = patch.unflatten(-1, (self.rows.shape[-2], self.columns.shape[-2]))
        return (self.rows.mT @ square @ self.columns).flatten(-2) / self.intensity[..., None]


class Window(nn.Module):
    r"""An $N \times N$ grid of Gaussian filters that a hidden state moves over pictures (Gregor et al. 2015).

    $(\tilde g_X, \tilde g_Y, \log\sigma^2, \log\tilde\delta, \log\gamma)$ are linear in the state (21); the grid has its centre
    at $g_X = \frac{A+1}{2}(\tilde g_X + 1)$, $g_Y = \frac{B+1}{2}(\tilde g_Y + 1)$ (22-23) and the stride
    $\delta = \frac{\max(A, B) - 1}{N - 1}\,\tilde\delta$ (24), for pictures of $B$ rows and $A$ columns. One filter has no
    stride.

    With all five at zero the outermost filters would lie on the outermost pixels, where digits have no ink, and see one pixel
    each. So the biases start such that the filters share the picture evenly: $\delta = \max(A, B) / N$ and $\sigma = \delta / 2$;
    $\gamma = 1$ for reading and $\gamma = \delta^{-2}$ for writing, with which a patch arrives on the canvas undiminished.

    Args:
        size: $N$.
        shape: height and width of the pictures.
        hidden: units of the state.
        writes: whether patches are written through it, and not read.
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
        """The window that a state, ``batch_shape x hidden``, points at."""
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


class State(NamedTuple):
    """A recurrent cell's state: what it shows and what it keeps, each ``batch_shape x hidden``."""

    shown: Tensor
    kept: Tensor


class Cell(nn.Module):
    r"""Long short-term memory (Hochreiter and Schmidhuber 1997) over inputs whose batch shapes broadcast.

    $i, f, o = \sigma(\cdot)$ and $g = \tanh(\cdot)$ of $W u + U h + b$; $c' = f c + i g$, $h' = o \tanh c'$: the equations and
    the order of the gates ($i, f, g, o$) are those of ``torch.nn.LSTMCell``. The initial state is learned. The input comes in
    parts that are never put together, so what particles or steps share is multiplied once.

    Args:
        inputs: the columns of every part.
        hidden: units of the state.
    """

    def __init__(self, inputs: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(n, 4 * hidden, bias=False) for n in inputs)
        self.recurrent = nn.Linear(hidden, 4 * hidden)
        self.first = nn.Parameter(torch.zeros(2, hidden))
        with torch.no_grad():
            self.recurrent.bias[hidden : 2 * hidden] += 1.0  # what is kept at first is not forgotten

    def start(self) -> State:
        """The learned initial state, each part of shape ``(hidden,)``."""
        return State(*self.first.unbind())

    def weigh(self, part: int, values: Tensor) -> Tensor:
        """What one part of the input, ``batch_shape x inputs[part]``, brings to the gates: ``batch_shape x (4 * hidden)``."""
        return self.parts[part](values)

    def forward(self, brought: Tensor, state: State) -> State:
        """The next state, given the sum of what the parts of the input bring."""
        gates = brought + self.recurrent(state.shown)
        put, keep, new, show = gates.chunk(4, -1)
        kept = keep.sigmoid() * state.kept + put.sigmoid() * new.tanh()
        return State(show.sigmoid() * kept.tanh(), kept)


class Network(nn.Module):
    """DRAW's parameters and its equations between the random sites."""

    def __init__(self, shape: tuple[int, int], latent: int, hidden: int, attention: tuple[int, int] | None) -> None:
        super().__init__()
        visible = math.prod(shape)
        read, write = attention or (None, None)
        self.reader = None if read is None else Window(read, shape, hidden, writes=False)
        self.writer = None if write is None else Window(write, shape, hidden, writes=True)
        glimpse = visible if read is None else read**2
        self.encoder = Cell((glimpse, glimpse, hidden), hidden)
        self.code = nn.Linear(hidden, 2 * latent)
        self.decoder = Cell((latent,), hidden)
        self.patch = nn.Linear(hidden, visible if write is None else write**2)
        self.canvas = nn.Parameter(torch.zeros(visible))

    def start(self) -> tuple[Tensor, State]:
        """The empty canvas and the decoder's first state."""
        return self.canvas, self.decoder.start()

    def see(self, x: Tensor) -> Tensor | None:
        """What whole pictures bring to the encoder, the same at every step; None where a window moves over them."""
        return self.encoder.weigh(0, x) if self.reader is None else None

    def look(self, x: Tensor, seen: Tensor | None, canvas: Tensor, decoder: State, encoder: State) -> State:
        """The encoder's next state, from what is read of the picture and of what the canvas still lacks."""
        lack = x - canvas.sigmoid()
        if self.reader is not None:
            filters = self.reader(decoder.shown)
            seen, lack = self.encoder.weigh(0, filters.read(x)), filters.read(lack)
        brought = self.encoder.weigh(1, lack) + self.encoder.weigh(2, decoder.shown)
        return self.encoder(brought if seen is None else seen + brought, encoder)

    def posterior(self, encoder: State) -> dist.TorchDistribution:
        """The law of a step's latents."""
        location, log_scale = self.code(encoder.shown).chunk(2, -1)
        return dist.Normal(location, log_scale.exp()).to_event(1)

    def stroke(self, z: Tensor, canvas: Tensor, decoder: State) -> tuple[Tensor, State, Filters | None]:
        """Canvas and decoder after one step, and the window it wrote to."""
        decoder = self.decoder(self.decoder.weigh(0, z), decoder)
        patch = self.patch(decoder.shown)
        if self.writer is None:
            return canvas + patch, decoder, None
        filters = self.writer(decoder.shown)
        return canvas + filters.write(patch), decoder, filters
