"""Variational autoencoder, section 20.10.3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from ..nets import Convolutions, TransposedConvolutions, mlp, picture_sizes, widths
from ..objectives.multi_sample import IWAE, DReG
from ..objectives.objective import Elbo, Objective
from .discretised_logistic import LOGISTIC_SPREAD, DiscretisedLogistic, GreyLevels, check_levels
from .latent import LatentVariableModel
from .model import BINARISE, check_rows, check_support

LIKELIHOODS = ("bernoulli", "gaussian", "logistic")
BODIES = ("dense", "convolutional")


class DecodedModel(LatentVariableModel):
    """A latent-variable model whose columns are observed through a decoder, independent of one another given the latents.

    ``decoder[-1].bias`` is one a column. A likelihood with a scale learns one a column, ``log_scale``.

    Args:
        visible: the number of columns that are observed.
        likelihood: ``"bernoulli"``, ``"gaussian"`` or ``"logistic"``.
        levels: grey levels of ``"logistic"``.

    Raises:
        ValueError: no column, an unknown likelihood, or fewer than two levels.
    """

    decoder: nn.Sequential

    def __init__(self, visible: int, likelihood: str, levels: int) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood got {likelihood!r}; expected one of {', '.join(LIKELIHOODS)}")
        if visible < 1:
            raise ValueError(f"visible got {visible}; expected a positive number of columns")
        self.visible, self.likelihood, self.levels = visible, likelihood, check_levels(levels)
        if likelihood != "bernoulli":
            self.log_scale = nn.Parameter(torch.zeros(visible))

    def columns(self, output: Tensor) -> Any:
        """The distributions of the columns that a decoder's output stands for: ``batch_shape x visible``."""
        if self.likelihood == "bernoulli":
            return dist.Bernoulli(logits=output)
        if self.likelihood == "gaussian":
            return dist.Normal(output, self.log_scale.exp())
        return DiscretisedLogistic(output, self.log_scale.exp(), self.levels)

    def initialise(self, x: Tensor) -> None:
        """Start the decoder's output bias at the columns' means, and their scales at those of the columns."""
        with torch.no_grad():
            x = x[:, : self.visible]
            mean, output = x.mean(0), cast(nn.Linear, self.decoder[-1])
            output.bias.copy_(torch.logit(mean, eps=1e-2) if self.likelihood == "bernoulli" else mean)
            if self.likelihood != "bernoulli":
                spread = LOGISTIC_SPREAD if self.likelihood == "logistic" else 1.0
                self.log_scale.copy_(x.std(0).clamp_min(1e-2).log() - math.log(spread))

    def check_columns(self, x: Tensor) -> None:
        """Raise ``ValueError`` where observed columns hold values that the likelihood has not."""
        name = type(self).__name__
        if self.likelihood == "bernoulli":
            check_support(
                x, lambda v: (v == 0) | (v == 1), f"{name} with a Bernoulli likelihood", "0 or 1",
                f"{BINARISE}; or choose likelihood='gaussian'",
            )  # fmt: skip
        if self.likelihood == "logistic":
            last = self.levels - 1
            check_support(
                x, GreyLevels(self.levels).check, f"{name} with a logistic likelihood",
                f"a grey level, k / {last} for k = 0 to {last}",
                "Divide bytes by 255, say how many levels there are by levels=, or choose likelihood='gaussian'",
            )  # fmt: skip

    def likelihood_options(self) -> dict[str, Any]:
        """The options that this class takes."""
        levels = {"levels": self.levels} if self.likelihood == "logistic" else {}
        return {"likelihood": self.likelihood, **levels}


class VAE(DecodedModel):
    r"""Variational autoencoder (Kingma and Welling 2014; Rezende et al. 2014), dense or convolutional.

    $p(x, z) = \mathcal N(z; 0, I)\, p(x \mid z)$ and $q(z \mid x) = \mathcal N(z; \mu(x), \mathrm{diag}\,\sigma^2(x))$,
    trained on $\mathcal L(q) = E_q[\log p(x, z)] + H(q) \le \log p(x)$ (20.76-78), in nats.

    ``model(x)`` has the sites ``"z"``, ``rows x latent``, and ``"x"``, ``rows x visible``.

    The logistic likelihood gives probabilities of grey levels and the Gaussian one densities of real numbers: their
    log-likelihoods do not compare. The convolutional body puts convolutions of stride 2 below the encoder's hidden layers,
    and transposed ones above the decoder's (section 20.10.6).

    Args:
        visible: the number of columns of the data.
        latent: the number of latent variables.
        hidden: units of the encoder's dense hidden layers; the decoder has them in reverse.
        likelihood: ``"bernoulli"`` for binary data; for real ones ``"gaussian"``, and for grey levels in [0, 1]
            ``"logistic"`` (``dgm.models.discretised_logistic``), both with one learned scale a column.
        activation: the non-linearity: tanh, relu, silu or softplus.
        levels: how many grey levels the logistic likelihood knows, 0 and 1 included.
        body: ``"dense"`` or ``"convolutional"``.
        shape: of a picture, for the convolutional body: height and width, or channels, height and width.
        channels: of every convolution.

    Raises:
        ValueError: a number of units below one, an unknown likelihood, activation or body, a shape that does not fit.

    See also:
        ``HierarchicalVAE`` for several stochastic layers, ``ConditionalVAE`` for p(x | y).

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> vae = dgm.VAE(784, latent=2, hidden=(64,))
        >>> vae.decode(torch.zeros(3, 2)).shape
        torch.Size([3, 784])
        >>> grey = dgm.VAE(35, latent=2, hidden=(), likelihood="logistic", body="convolutional", shape=(5, 7))
        >>> grey.sample(3).shape
        torch.Size([3, 35])
    """

    encoder: nn.Sequential

    def __init__(
        self,
        visible: int,
        latent: int = 50,
        hidden: Sequence[int] = (200, 200),
        likelihood: str = "bernoulli",
        activation: str = "tanh",
        levels: int = 256,
        body: str = "dense",
        shape: Sequence[int] | None = None,
        channels: Sequence[int] = (32, 64),
    ) -> None:
        super().__init__(visible, likelihood, levels)
        hidden = widths(hidden)
        check_body(body, shape, channels, visible)
        self.latent, self.hidden, self.activation = latent, hidden, activation
        self.body, self.shape, self.channels = body, shape, channels
        if shape is None:
            self.encoder = mlp((visible, *hidden, 2 * latent), activation)
            self.decoder = mlp((latent, *reversed(hidden), visible), activation)
        else:
            below = Convolutions(shape, channels, activation)
            self.encoder = nn.Sequential(below, *mlp((below.features, *hidden, 2 * latent), activation))
            top = TransposedConvolutions(shape, channels, activation)
            dense = mlp((latent, *reversed(hidden), top.features), activation)
            self.decoder = nn.Sequential(*dense, type(below.layers[-1])(), top)

    def encode(self, x: Tensor) -> dist.TorchDistribution:
        """$q(z | x)$: ``batch_shape`` of the rows, ``event_shape`` (latent,)."""
        return diagonal(self.encoder(x))

    def observe(self, z: Tensor) -> dist.TorchDistribution:
        """$p(x | z)$: ``batch_shape`` of the codes, ``event_shape`` (visible,)."""
        return self.columns(self.decoder(z)).to_event(1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean of $p(x | z)$: ``batch_shape x visible``."""
        with torch.no_grad():
            return self.columns(self.decoder(z)).mean

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

    def objective(self, bound: str = "elbo", particles: int = 1) -> Objective:
        """The ELBO with its analytic KL term; with a number of particles ``"iwae"``, or ``"dreg"`` for its other gradient."""
        return bound_objective(bound, particles, TraceMeanField_ELBO)

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), "VAE")
        self.check_columns(x)

    def options(self) -> dict[str, Any]:
        picture = {} if self.shape is None else {
            "body": self.body, "shape": list(self.shape), "channels": list(self.channels)
        }  # fmt: skip
        return {
            "visible": self.visible,
            "latent": self.latent,
            "hidden": list(self.hidden),
            **self.likelihood_options(),
            "activation": self.activation,
            **picture,
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            vae = cls(6, latent=2, hidden=(5,))
            return vae, torch.randint(0, 2, (10, 6)).float()


def check_body(body: str, shape: Sequence[int] | None, channels: Sequence[int], visible: int) -> None:
    """Refuse a body that does not go with the shape.

    Raises:
        ValueError: an unknown body, or a shape that is missing, not wanted, or of another number of pixels.
    """
    if body not in BODIES:
        raise ValueError(f"body got {body!r}; expected one of {', '.join(BODIES)}")
    if (body == "convolutional") != (shape is not None):
        expected = "that of a picture, as in shape=(28, 28)" if shape is None else "none, or body='convolutional'"
        raise ValueError(f"shape got {shape!r} with body={body!r}; expected {expected}")
    if shape is not None and math.prod(picture_sizes(shape, channels)[0]) != visible:
        raise ValueError(f"shape got {shape!r}, {math.prod(shape)} pixels; expected {visible}, the number of columns")


def diagonal(output: Tensor) -> dist.TorchDistribution:
    """A diagonal normal of means and log standard deviations: ``batch_shape x 2 latent`` to ``event_shape`` (latent,)."""
    location, log_scale = output.chunk(2, -1)
    return dist.Normal(location, log_scale.exp()).to_event(1)


def bound_objective(bound: str, particles: int, elbo: type[ELBO] = Trace_ELBO) -> Objective:
    """The bound of that name, where ``"elbo"`` is the given estimator.

    Raises:
        ValueError: an unknown bound.
    """
    if bound == "elbo":
        return Elbo(elbo(max_plate_nesting=1, num_particles=particles, vectorize_particles=particles > 1))
    if bound in ("iwae", "dreg"):
        return Elbo(IWAE(particles) if bound == "iwae" else DReG(particles))
    raise ValueError(f"bound got {bound!r}; expected 'elbo', 'iwae' or 'dreg'")
