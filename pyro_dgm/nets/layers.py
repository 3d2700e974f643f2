"""What torch's layers lack: bits by tables, maxout, un-pooling, and batch normalisation over all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import processes
from ..checks import check_count, check_positive, check_share
from ..native import linear, multiplies_bits, runs_at_once


def first_affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x @ weight + bias`` of a network's first layer: rows of bits by tables of sums or matrix units where these are faster.

    Args:
        x: ``batch_shape x n``.
        weight: ``n x m``.
        bias: ``m``, or None.
    """
    if runs_at_once() and not x.requires_grad and x.dim() == 2 and multiplies_bits(len(x), weight.numel()):
        return linear(x, weight, bias)
    return F.linear(x, weight.t(), bias)


class InputLinear(nn.Linear):
    r"""``nn.Linear`` for the first layer of a network, by ``first_affine``.

    ``rows x in_features`` to ``rows x out_features``.

    Example:
        >>> layer, x = InputLinear(784, 500), (torch.rand(200, 784) < 0.5).float()
        >>> torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5)
        True
    """

    def forward(self, x: Tensor) -> Tensor:
        return first_affine(x, self.weight.t(), self.bias)


class Maxout(nn.Module):
    r"""Units that are the largest of affine maps, $h_j = \max_{l} (x^\top W_{\cdot jl} + b_{jl})$ (Goodfellow et al. 2013).

    ``batch_shape x inputs`` to ``batch_shape x units``.

    Args:
        inputs: the number of inputs.
        units: the number of units.
        pieces: the number of affine maps of a unit.

    Raises:
        ValueError: a number below one.

    Example:
        >>> Maxout(4, 3, pieces=2)(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(self, inputs: int, units: int, pieces: int = 5) -> None:
        super().__init__()
        self.units, self.pieces = check_count("units", units), check_count("pieces", pieces)
        self.linear = nn.Linear(check_count("inputs", inputs), self.units * self.pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, (self.units, self.pieces)).amax(-1)

    def extra_repr(self) -> str:
        return f"units={self.units}, pieces={self.pieces}"


class UnPool(nn.Module):
    """The reverse of pooling that needs no memory of it: every value goes to the upper left of a square of zeros (20.10.6).

    ``batch x channels x height x width``; both sides are multiplied by ``size``. With a convolution above it is a transposed
    convolution of that stride (Dosovitskiy, Springenberg and Brox 2015).

    Args:
        size: the side of the squares.

    Raises:
        ValueError: a side below one.

    Example:
        >>> UnPool(2)(torch.tensor([[[[1.0, 2.0]]]]))
        tensor([[[[1., 0., 2., 0.],
                  [0., 0., 0., 0.]]]])
    """

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.size = check_count("size", size)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        wide = x.new_zeros(*x.shape[:-2], height, self.size, width, self.size)
        wide[..., :, 0, :, 0] = x
        return wide.flatten(-4, -3).flatten(-2)

    def extra_repr(self) -> str:
        return f"size={self.size}"


class BatchNorm(nn.Module):
    r"""Batch normalisation by the statistics of the whole batch, over all processes (Ioffe and Szegedy 2015).

    Columns (``rows x D``) or channels (``rows x channels x height x width``) are brought to mean 0 and variance 1, and with
    ``affine`` multiplied and shifted by learned numbers. In evaluation the running statistics count, so that a row's output does
    not depend on the rows beside it: the law of what a network generates is then fixed.

    Args:
        features: the number of columns or channels.
        affine: learn a scale and a shift.
        momentum: the share of a batch in the running statistics.
        eps: added to the variance.

    Raises:
        ValueError: no feature; in training, a single value of a column.

    Example:
        >>> BatchNorm(2)(torch.tensor([[0.0, 1.0], [2.0, 3.0]])).mean(0)
        tensor([0., 0.], grad_fn=<MeanBackward1>)
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, features: int, affine: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.features = check_count("features", features)
        check_positive("eps", eps, "a small number added to the variance")
        check_share("momentum", momentum, "the share of a batch in the running statistics")
        self.momentum, self.eps = momentum, eps
        self.scale = nn.Parameter(torch.ones(features)) if affine else None
        self.shift = nn.Parameter(torch.zeros(features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_variance", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or processes.world() == 1:
            if self.training and x.numel() == x.shape[1]:
                raise ValueError("batch normalisation got one row in training; expected a batch of at least two")
            return F.batch_norm(
                x,
                self.running_mean,
                self.running_variance,
                self.scale,
                self.shift,
                self.training,
                self.momentum,
                self.eps,
            )
        dims = [dim for dim in range(x.dim()) if dim != 1]
        shape = [1, self.features] + [1] * (x.dim() - 2)
        sums = torch.stack([x.sum(dims), x.new_full((self.features,), x.numel() / x.shape[1])])
        total, count = processes.total(sums)
        mean = total / count
        variance = processes.total((x - mean.view(shape)).square().sum(dims)) / count
        with torch.no_grad():
            n = float(count[0])
            self.running_mean.lerp_(mean, self.momentum)
            self.running_variance.lerp_(variance * (n / max(n - 1, 1)), self.momentum)
        normal = (x - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        if self.scale is None or self.shift is None:
            return normal
        return normal * self.scale.view(shape) + self.shift.view(shape)

    def extra_repr(self) -> str:
        return f"{self.features}, affine={self.scale is not None}"


def enlarged(picture: Tensor) -> Tensor:
    """A picture with every pixel repeated into a square of four: ``rows x channels x height x width``."""
    return picture.repeat_interleave(2, -1).repeat_interleave(2, -2)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a module has batch normalisation, this file's or torch's, which needs more than a row."""
    return any(isinstance(part, _NORMS) for part in module.modules())


def has_torch_norm(*modules: nn.Module) -> bool:
    """Whether a module has torch's own batch normalisation, whose statistics are those of a process's rows."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for module in modules for part in module.modules())


def running_statistics(module: nn.Module) -> list[Tensor]:
    """The running means and variances of a module's batch normalisation."""
    parts = [part for part in module.modules() if isinstance(part, _NORMS)]
    return [buffer for part in parts for buffer in part.buffers(recurse=False) if buffer.is_floating_point()]


def start_normal(module: nn.Module, deviation: float = 0.02) -> nn.Module:
    """Draw all weights of linear and convolutional layers from a normal, and set their biases to zero (Radford et al. 2016)."""
    linear: Any = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    for part in module.modules():
        if isinstance(part, linear):
            nn.init.normal_(part.weight, std=deviation)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


_NORMS = (BatchNorm, nn.modules.batchnorm._BatchNorm)
