"""Generator network of a generative adversarial network, section 20.10.4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..shared.examples import seeded
from ..shared.network_generator import NetworkGenerator


class GAN(NetworkGenerator):
    r"""Rows from noise by a network that is trained in a game, dense or convolutional (Goodfellow et al. 2014).

    $x = g(z)$, $z \sim N(0, I)$ or uniform, trained in a game (20.80-81); the discriminator belongs to the criterion
    (``dgm.Adversarial``), which ``objective`` makes, and the model is the generator alone. With ``noise`` $\sigma$ the program
    is $x \sim N(g(z), \sigma^2 I)$: a latent-variable model with bounds of its log-density (nats), conditionals, and SVI.
    Without it only its samples can be judged.

    ``model(x)`` has the sites ``"z"``, ``rows x latent``, and ``"x"``, ``rows x visible``.

    ``body="convolutional"`` has transposed convolutions above the hidden layers (section 20.10.6), with ``normalise`` those of
    Radford, Metz and Chintala (2016).

    Args:
        visible: the number of columns.
        latent: the number of latent variables.
        hidden: units of the dense hidden layers.
        activation: the non-linearity: relu, tanh, silu, softplus, sigmoid or leaky_relu.
        output: ``"sigmoid"`` for columns in [0, 1], ``"tanh"`` for [-1, 1], ``"linear"`` for real ones.
        noise: $\sigma$, the standard deviation of the output noise; 0 for none.
        prior: ``"normal"`` or ``"uniform"``.
        body: ``"dense"`` or ``"convolutional"``.
        shape: height and width of a picture, or channels, height and width; for the convolutional body.
        channels: the channels of every convolution, those next to the picture first; (32, 64) by default.
        kernel: the side of the filters, odd; 5 by default.
        normalise: batch normalisation in the hidden layers. Samples use its running statistics: they do not depend on each other.
        unpool: un-pooling and convolutions in place of transposed convolutions.
        generator: a network of your own, ``rows x latent`` to ``rows x visible``, in place of the one that the options
            describe; ``output`` follows it. A saved run cannot rebuild it: ``dgm.load(run, model=gan)``.

    Raises:
        ValueError: a number below one, an unknown option, a shape that does not fit.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> dgm.GAN(784, latent=20, hidden=(64,)).sample(3).shape
        torch.Size([3, 784])
    """

    def __init__(
        self,
        visible: int,
        latent: int = 100,
        hidden: Sequence[int] = (400, 400),
        activation: str = "relu",
        output: str = "sigmoid",
        noise: float = 0.0,
        prior: str = "normal",
        body: str = "dense",
        shape: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        kernel: int | None = None,
        normalise: bool = False,
        unpool: bool = False,
        generator: nn.Module | None = None,
    ) -> None:
        super().__init__(
            0, visible, latent, hidden, activation, output, noise, prior, body, shape, channels, kernel, normalise, unpool,
            generator,
        )  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(4, latent=2, hidden=(6,), noise=0.5), lambda: torch.rand(10, 4))
