"""Variational autoencoder, section 20.10.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

from ..nets import mlp
from ..objectives.multi_sample import IWAE
from ..objectives.objective import Elbo, Objective
from .latent import LatentVariableModel
from .model import BINARISE, check_rows, check_support

LIKELIHOODS = ("bernoulli", "gaussian")


class VAE(LatentVariableModel):
    r"""Variational autoencoder with a dense encoder and decoder (Kingma and Welling 2014; Rezende et al. 2014).

    $p(x, z) = \mathcal N(z; 0, I)\, p(x \mid z)$ and $q(z \mid x) = \mathcal N(z; \mu(x), \mathrm{diag}\,\sigma^2(x))$,
    trained on $\mathcal L(q) = E_q[\log p(x, z)] + H(q) \le \log p(x)$ (20.76-78), in nats.

    ``model(x)`` has the sites ``"z"``, ``rows x latent``, and ``"x"``, ``rows x visible``.

    Args:
        visible: the number of columns of the data.
        latent: the number of latent variables.
        hidden: units of the encoder's hidden layers; the decoder has them in reverse.
        likelihood: ``"bernoulli"`` for binary data, ``"gaussian"`` (one learned standard deviation a column) for real ones.
        activation: the non-linearity: tanh, relu, silu or softplus.

    Raises:
        ValueError: a number of units below one, an unknown likelihood or activation.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> vae = dgm.VAE(784, latent=2, hidden=(64,))
        >>> vae.decode(torch.zeros(3, 2)).shape
        torch.Size([3, 784])
    """

    encoder: nn.Sequential
    decoder: nn.Sequential

    def __init__(
        self,
        visible: int,
        latent: int = 50,
        hidden: Sequence[int] = (200, 200),
        likelihood: str = "bernoulli",
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood got {likelihood!r}; expected one of {', '.join(LIKELIHOODS)}")
        if not isinstance(hidden, Sequence):
            raise ValueError(
                f"hidden got {hidden!r}; expected the units of every hidden layer, as in hidden=(200, 200)"
            )
        hidden = tuple(hidden)
        self.visible, self.latent, self.hidden = visible, latent, hidden
        self.likelihood, self.activation = likelihood, activation
        self.encoder = mlp((visible, *hidden, 2 * latent), activation)
        self.decoder = mlp((latent, *reversed(hidden), visible), activation)
        if likelihood == "gaussian":
            self.log_scale = nn.Parameter(torch.zeros(visible))

    def encode(self, x: Tensor) -> dist.TorchDistribution:
        """$q(z | x)$: ``batch_shape`` of the rows, ``event_shape`` (latent,)."""
        location, log_scale = self.encoder(x).chunk(2, -1)
        return dist.Normal(location, log_scale.exp()).to_event(1)

    def observe(self, z: Tensor) -> dist.TorchDistribution:
        """$p(x | z)$: ``batch_shape`` of the codes, ``event_shape`` (visible,)."""
        output = self.decoder(z)
        if self.likelihood == "bernoulli":
            return dist.Bernoulli(logits=output).to_event(1)
        return dist.Normal(output, self.log_scale.exp()).to_event(1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean of $p(x | z)$: ``batch_shape x visible``."""
        with torch.no_grad():
            return self.observe(z).mean

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        with self.data_plate(x, size):
            like = next(self.decoder.parameters())
            z = pyro.sample("z", dist.Normal(like.new_zeros(self.latent), 1.0).to_event(1))
            return pyro.sample("x", self.observe(z), obs=x)

    def infer(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        if x is None:
            raise ValueError("the guide needs data: q(z | x) is a function of x. Pass rows, or run the model alone")
        with self.data_plate(x, size):
            return pyro.sample("z", self.encode(x))

    def initialise(self, x: Tensor) -> None:
        """Start the decoder's output bias at the columns' means."""
        with torch.no_grad():
            mean = x.mean(0)
            output = cast(nn.Linear, self.decoder[-1])
            output.bias.copy_(torch.logit(mean, eps=1e-2) if self.likelihood == "bernoulli" else mean)
            if self.likelihood == "gaussian":
                self.log_scale.copy_(x.std(0).clamp_min(1e-2).log())

    def objective(self, bound: str = "elbo", particles: int = 1) -> Objective:
        """The ELBO with its analytic KL term, or ``"iwae"`` with a number of particles."""
        if bound == "elbo":
            return Elbo(
                TraceMeanField_ELBO(max_plate_nesting=1, num_particles=particles, vectorize_particles=particles > 1)
            )
        if bound == "iwae":
            return Elbo(IWAE(particles))
        raise ValueError(f"bound got {bound!r}; expected 'elbo' or 'iwae'")

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), "VAE")
        if self.likelihood == "bernoulli":
            check_support(
                x, lambda v: (v == 0) | (v == 1), "VAE with a Bernoulli likelihood", "0 or 1",
                f"{BINARISE}; or choose likelihood='gaussian'",
            )  # fmt: skip

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "latent": self.latent,
            "hidden": list(self.hidden),
            "likelihood": self.likelihood,
            "activation": self.activation,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            vae = cls(6, latent=2, hidden=(5,))
            return vae, torch.randint(0, 2, (10, 6)).float()
