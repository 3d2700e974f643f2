"""The player of a game who tells data from generated rows (section 20.10.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..checks import check_belongs, check_choice, check_columns, check_count, check_counts, check_share
from .bodies import ACTIVATIONS, Convolutions, check_kernel, picture_sizes
from .layers import Maxout, start_normal

KINDS = (*ACTIVATIONS, "maxout")
"""The non-linearities of a discriminator."""


class Discriminator(nn.Module):
    r"""The log odds a(x) that a row is one of the data and not generated; $d(x) = \sigma(a(x))$ (20.81).

    ``rows x visible`` to ``rows``. Dropout is on while a game is trained, in either player's turn (20.10.4). The defaults are
    those of Goodfellow et al. (2014) for digits; ``body="convolutional"`` has convolutions of stride 2 with leaky slopes below
    the hidden layers (Radford, Metz and Chintala 2016).

    Args:
        visible: the number of columns, of labels too.
        hidden: units of the dense hidden layers.
        activation: the non-linearity: ``"maxout"``, tanh, relu, silu, softplus, sigmoid or leaky_relu; by default maxout for
            the dense body, and leaky_relu, which all layers then have, for the convolutional one.
        pieces: the affine maps of a maxout unit, 5 by default.
        dropout: the share of hidden units that is dropped.
        input_dropout: the share of columns that is dropped.
        body: ``"dense"`` or ``"convolutional"``.
        shape: height and width of a picture, or channels, height and width; for the convolutional body. Columns behind those of
            the picture (labels) are further channels, constant over the picture, and go to the dense layers too.
        channels: the number of channels of every convolution; (32, 64) by default.
        kernel: the side of their filters, 5 by default.
        normalise: put batch normalisation behind all convolutions but the first. Rows of data and generated rows then have
            statistics of their own, since the game scores them apart.

    Raises:
        ValueError: a number below one, a share outside [0, 1), an unknown body or activation, or options of another one.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> dgm.Discriminator(784, hidden=(16,))(torch.zeros(3, 784)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int] = (240, 240),
        activation: str | None = None,
        pieces: int | None = None,
        dropout: float = 0.5,
        input_dropout: float = 0.2,
        body: str = "dense",
        shape: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        kernel: int | None = None,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.visible = check_columns(visible)
        self.hidden = check_counts("hidden", hidden, fewest=0)
        check_choice("body", body, ("dense", "convolutional"))
        convolutional = body == "convolutional"
        activation = activation or ("leaky_relu" if convolutional else "maxout")
        check_choice("activation", activation, ACTIVATIONS if convolutional else KINDS)
        check_belongs("activation", activation, ["maxout"], pieces=pieces)
        check_belongs("body", body, ["convolutional"], shape=shape, channels=channels, kernel=kernel)
        check_share("dropout", dropout, "the share of hidden units dropped", zero=True)
        check_share("input_dropout", input_dropout, "the share of columns dropped", zero=True)
        if normalise and not convolutional:
            raise ValueError("normalise=True goes with body='convolutional'; a dense discriminator has no batch norm")
        self.activation, self.pieces = activation, 5 if pieces is None else check_count("pieces", pieces)
        self.dropout, self.input_dropout, self.body, self.normalise = dropout, input_dropout, body, normalise
        self.shape = None if shape is None else tuple(shape)
        self.channels = (32, 64) if channels is None else check_counts("channels", channels)
        self.kernel = 5 if kernel is None else check_kernel(kernel)
        self.pixels, below = 0, self.visible
        if convolutional:
            below = self._convolutions(visible)
        layers: list[nn.Module] = []
        for units in self.hidden:
            layers += [self._layer(below, units), nn.Dropout(dropout)]
            below = units
        self.seen = nn.Dropout(input_dropout)
        self.top = nn.Sequential(*layers, nn.Linear(below, 1))
        if convolutional:
            start_normal(self)

    def _convolutions(self, visible: int) -> int:
        """Make the convolutions; returns the number of columns above them."""
        if self.shape is None:
            raise ValueError("body='convolutional' needs the shape of a picture, as in shape=(28, 28)")
        channels, *sides = picture_sizes(self.shape, self.channels)[0]
        self.pixels = math.prod((channels, *sides))
        if self.pixels > visible:
            raise ValueError(f"shape got {self.shape}, {self.pixels} pixels, more than the {visible} columns of a row")
        behind = visible - self.pixels
        shape = (channels + behind, *sides)
        self.convolutions = Convolutions(shape, self.channels, self.activation, self.kernel, self.normalise)
        return self.convolutions.features + behind

    def _layer(self, inputs: int, units: int) -> nn.Module:
        if self.activation == "maxout":
            return Maxout(inputs, units, self.pieces)
        return nn.Sequential(nn.Linear(inputs, units), ACTIVATIONS[self.activation]())

    def forward(self, x: Tensor) -> Tensor:
        x = self.seen(x)
        if self.pixels:
            picture, behind = x[:, : self.pixels], x[:, self.pixels :]
            _, *sides = self.convolutions.shape
            planes = behind[..., None].expand(*behind.shape, math.prod(sides)).flatten(1)
            x = torch.cat([self.convolutions(torch.cat([picture, planes], 1)), behind], 1)
        return cast(Tensor, self.top(x).squeeze(-1))

    def options(self) -> dict[str, Any]:
        """The arguments that build an equal one, as plain data."""
        made: dict[str, Any] = {
            "visible": self.visible, "hidden": list(self.hidden), "activation": self.activation, "dropout": self.dropout,
            "input_dropout": self.input_dropout, "body": self.body, "normalise": self.normalise,
        }  # fmt: skip
        if self.activation == "maxout":
            made["pieces"] = self.pieces
        if self.shape is not None:
            made |= {"shape": list(self.shape), "channels": list(self.channels), "kernel": self.kernel}
        return made
