"""Variational autoencoder, section 20.10.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

from ...checks import check_count, check_counts
from ...distributions.standard_normal import standard_normal
from ...nets.bodies import ACTIVATIONS, Convolutions, TransposedConvolutions, mlp
from ...objectives.objective import Objective
from ..shared.decoded import DecodedModel, check_body, diagonal
from ..shared.examples import bits, seeded
from ..shared.latent import Bound, bound_objective
from ..shared.own_networks import network
from ..shared.rows import check_rows, known_alone


class VAE(DecodedModel):
    r"""Variational autoencoder (Kingma and Welling 2014; Rezende et al. 2014), dense or convolutional.

    $p(x, z) = \mathcal N(z; 0, I)\, p(x \mid z)$ and $q(z \mid x) = \mathcal N(z; \mu(x), \mathrm{diag}\,\sigma^2(x))$,
    trained on $\mathcal L(q) = E_q[\log p(x, z)] + H(q) \le \log p(x)$ (20.76-78), in nats.

    ``model(x)`` has the sites ``"z"``, ``rows x latent``, and ``"x"``, ``rows x visible``.

    Logistic output gives probabilities of grey levels, Gaussian output densities of real numbers: their
    log-likelihoods do not compare. The convolutional body puts convolutions of stride 2 below the encoder's hidden layers,
    and transposed ones above the decoder's (section 20.10.6).

    Args:
        visible: the number of columns of the data.
        latent: the number of latent variables.
        hidden: units of the encoder's dense hidden layers; the decoder has them in reverse.
        output: ``"binary"`` for binary data; for real ones ``"gaussian"``, and for grey levels in [0, 1]
            ``"logistic"`` (``dgm.DiscretisedLogistic``), both with one learned scale per column.
        activation: the non-linearity: tanh, relu, silu or softplus.
        levels: the number of grey levels of ``"logistic"`` output, 0 and 1 included; 256 by default.
        body: ``"dense"`` or ``"convolutional"``.
        shape: height and width of a picture, or channels, height and width; for the convolutional body.
        channels: the number of channels of every convolution; (32, 64) by default.
        encoder: a network of your own, ``rows x visible`` to ``rows x 2 latent`` (means, then logarithms of deviations), in
            place of the one that the options describe. A saved run cannot rebuild it: ``dgm.load(run, model=vae)`` loads
            the weights into a model that you make.
        decoder: likewise, ``rows x latent`` to ``rows x visible`` (logits, or means).

    Raises:
        ValueError: a number of units below one, an unknown output, activation or body, a shape that does not fit.

    See also:
        ``HierarchicalVAE`` for several stochastic layers, ``ConditionalVAE`` for p(x | y).

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> vae = dgm.VAE(784, latent=2, hidden=(64,))
        >>> vae.decode(torch.zeros(3, 2)).shape
        torch.Size([3, 784])
        >>> grey = dgm.VAE(35, latent=2, hidden=(), output="logistic", body="convolutional", shape=(5, 7))
        >>> grey.sample(3).shape
        torch.Size([3, 35])
    """

    encoder: nn.Module

    def __init__(
        self,
        visible: int,
        latent: int = 50,
        hidden: Sequence[int] = (200, 200),
        output: str = "binary",
        activation: str = "tanh",
        levels: int | None = None,
        body: str = "dense",
        shape: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__(visible, output, levels)
        visible, hidden = self.visible, check_counts("hidden", hidden, fewest=0)
        latent = check_count("latent", latent, what="the number of latent variables")
        chosen = check_body(body, shape, channels, visible)
        self.latent, self.hidden, self.activation = latent, hidden, activation
        self.body, self.shape, self.channels = body, shape, chosen
        self.encoder = network(self, "encoder", encoder, self._encoder, visible, 2 * latent)
        self.decoder = network(self, "decoder", decoder, self._decoder, latent, visible)

    def _encoder(self) -> nn.Module:
        if self.shape is None:
            return mlp((self.visible, *self.hidden, 2 * self.latent), self.activation)
        below = Convolutions(self.shape, self.channels, self.activation)
        return nn.Sequential(below, *mlp((below.features, *self.hidden, 2 * self.latent), self.activation))

    def _decoder(self) -> nn.Module:
        if self.shape is None:
            return mlp((self.latent, *reversed(self.hidden), self.visible), self.activation)
        top = TransposedConvolutions(self.shape, self.channels, self.activation)
        dense = mlp((self.latent, *reversed(self.hidden), top.features), self.activation)
        return nn.Sequential(*dense, ACTIVATIONS[self.activation](), top)

    def encode(self, x: Tensor) -> dist.TorchDistribution:
        """$q(z | x)$: ``batch_shape`` of the rows, ``event_shape`` (latent,)."""
        return diagonal(self.encoder(self.seen(x)))

    def observe(self, z: Tensor) -> dist.TorchDistribution:
        """$p(x | z)$: ``batch_shape`` of the codes, ``event_shape`` (visible,)."""
        return self.columns(self.decoder(z)).to_event(1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean of $p(x | z)$: ``batch_shape x visible``."""
        with torch.no_grad():
            return self.columns(self.decoder(z)).mean

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        with self.data_plate(x, size):
            z = pyro.sample("z", standard_normal(self.latent, next(self.decoder.parameters()), x))
            columns, known = known_alone(self.observe(z), x)
            return pyro.sample("x", columns, obs=known)

    def infer(self, x: Tensor, size: int | None = None) -> Tensor:
        with self.data_plate(x, size):
            return pyro.sample("z", self.encode(x))

    def objective(
        self, kind: Bound = "elbo", particles: int = 1, kl_weight: float | None = None, kl_warmup: float | None = None
    ) -> Objective:
        """The ELBO with its analytic KL term; or, of several particles, ``"iwae"`` or its other gradient, ``"dreg"``.

        ``kl_weight`` and ``kl_warmup``, of ``"elbo"``, are those of ``dgm.Elbo``.
        """
        return bound_objective(kind, particles, TraceMeanField_ELBO, kl_weight=kl_weight, kl_warmup=kl_warmup)

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), "VAE", missing=True)
        self.check_columns(x)

    def options(self) -> dict[str, Any]:
        picture = {} if self.shape is None else {
            "body": self.body, "shape": list(self.shape), "channels": list(self.channels)
        }  # fmt: skip
        return {
            "visible": self.visible,
            "latent": self.latent,
            "hidden": list(self.hidden),
            **self.output_options(),
            "activation": self.activation,
            **picture,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(6, latent=2, hidden=(5,)), lambda: bits(10, 6))
