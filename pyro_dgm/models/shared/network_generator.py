"""The base of generators that are one network, dense or convolutional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ...checks import check_count, check_counts
from ...nets.bodies import ACTIVATIONS, TransposedConvolutions, check_kernel, mlp
from ...nets.discriminator import Discriminator
from ...nets.layers import BatchNorm, start_normal
from ...objectives.criteria.adversarial import Adversarial, Play
from ...objectives.criteria.games import Game
from ...objectives.objective import Objective
from .decoded import check_body
from .generator import GeneratorModel, bias_of
from .own_networks import network


class NetworkGenerator(GeneratorModel):
    """A generator with the latent site ``"z"`` and one network above it; its default criterion is a game.

    Args:
        given: columns beside the latents that the network takes (labels).
        visible, latent, hidden, activation, output, noise, prior, body, shape, channels, kernel, normalise, unpool, generator:
            as for ``dgm.GAN``.

    Raises:
        ValueError: as for ``dgm.GAN``.
    """

    def __init__(
        self,
        given: int,
        visible: int,
        latent: int,
        hidden: Sequence[int],
        activation: str,
        output: str,
        noise: float,
        prior: str,
        body: str,
        shape: Sequence[int] | None,
        channels: Sequence[int] | None,
        kernel: int | None,
        normalise: bool,
        unpool: bool,
        generator: nn.Module | None,
    ) -> None:
        super().__init__(visible, noise, prior, output)
        self.latent = check_count("latent", latent, what="the number of latent variables")
        self.hidden, self.activation = check_counts("hidden", hidden, fewest=0), activation
        self.channels = check_body(body, shape, channels, self.visible)
        self.body, self.shape = body, shape
        self.kernel = 5 if kernel is None else check_kernel(kernel)
        if body == "dense" and (unpool or kernel is not None):
            raise ValueError("kernel and unpool go with body='convolutional'; a dense generator has no filters")
        self.normalise, self.unpool = normalise, unpool
        self.inputs = self.latent + given
        self.generator = network(self, "generator", generator, self._network, self.inputs, self.visible)

    def _network(self) -> nn.Module:
        if self.shape is None:
            return mlp((self.inputs, *self.hidden, self.visible), self.activation, self.normalise)
        top = TransposedConvolutions(
            self.shape, self.channels, self.activation, self.kernel, self.normalise, self.unpool
        )
        dense = mlp((self.inputs, *self.hidden, top.features), self.activation, self.normalise)
        norm = [BatchNorm(top.features)] if self.normalise else []
        return start_normal(nn.Sequential(*dense, *norm, ACTIVATIONS[self.activation](), top))

    def latents(self) -> Tensor:
        return pyro.sample("z", self.noise_of(self.latent))

    def means(self, latents: Tensor) -> Tensor:
        return self.finish(_rowwise(self.generator, latents))

    def decode(self, z: Tensor) -> Tensor:
        """Generated rows g(z), without output noise: ``batch_shape x latent`` to ``batch_shape x visible``."""
        with torch.no_grad():
            return self.means(z)

    def last_bias(self) -> Tensor | None:
        return bias_of(self.generator, self.visible)

    def objective(
        self,
        game: Game = "non-saturating",
        steps: int = 1,
        play: Play = "alternating",
        rate: float = 1.0,
        discriminator: Sequence[int] = (240, 240),
        activation: str | None = None,
        pieces: int | None = None,
        dropout: float = 0.5,
        input_dropout: float = 0.2,
    ) -> Objective:
        """The game against a ``dgm.Discriminator`` with a body like the generator's (``dgm.Adversarial``).

        Args:
            game, steps, play, rate: as for ``dgm.Adversarial``.
            discriminator: units of the discriminator's dense hidden layers.
            activation: their non-linearity, by default maxout, or leaky_relu with convolutions.
            pieces: the affine maps of maxout units, 5 by default.
            dropout, input_dropout: as for ``dgm.Discriminator``.
        """
        picture: dict[str, Any] = {}
        if self.shape is not None:
            picture = {
                "shape": self.shape,
                "channels": self.channels,
                "kernel": self.kernel,
                "normalise": self.normalise,
            }
        opponent = Discriminator(
            self.data_shape().numel(), discriminator, activation, pieces, dropout=dropout, input_dropout=input_dropout,
            body=self.body, **picture,
        )  # fmt: skip
        return Adversarial(opponent, game, steps, play, rate)

    def options(self) -> dict[str, Any]:
        picture: dict[str, Any] = {}
        if self.shape is not None:
            picture = {
                "shape": list(self.shape), "channels": list(self.channels), "kernel": self.kernel, "unpool": self.unpool
            }  # fmt: skip
        return {
            "visible": self.visible, "latent": self.latent, "hidden": list(self.hidden), "activation": self.activation,
            **self.output_options(), "body": self.body, "normalise": self.normalise, **picture,
        }  # fmt: skip


def _rowwise(module: nn.Module, z: Tensor) -> Tensor:
    """A network's output for any batch shape; batch normalisation takes rows in one dimension."""
    return module(z.reshape(-1, z.shape[-1])).view(*z.shape[:-1], -1)
