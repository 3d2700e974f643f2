"""Variational autoencoder looped into a chain that is shaped by a guide, section 20.13."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from ...checks import check_count, check_counts
from ...energy import Clamp, State
from ...nets.bodies import mlp
from ...nets.discriminator import Discriminator
from ...nets.modes import evaluating
from ...objectives.criteria.shaping import Shaping
from ...objectives.objective import Objective
from ..shared.decoded import diagonal
from ..shared.examples import bits, seeded
from ..shared.generator import bias_of
from ..shared.own_networks import network
from ..shared.rebuilding import RebuildingModel


class ShapedGSN(RebuildingModel):
    r"""The chain $z_i \sim q(z \mid x_{i-1})$, $x_i = g(z_i)$ of an autoencoder that is trained to stay with the data (20.13).

    A variational autoencoder is looped into a generative stochastic network: encode a row, decode the code, and go on from
    there. Its first steps are trained to give the row back, and a guide, which learns to tell data from the chain's rows, pushes
    the chain away from places where it is too dense (``dgm.Shaping``): approximate Bayesian computation by a learned statistic
    (Bachman and Precup 2015).

    The chain goes over the means g(z); rows are drawn around them. There is no likelihood, and clamping is approximate.

    Args:
        visible: the number of columns.
        latent: the number of latent variables.
        hidden: units of the encoder's hidden layers; the decoder has them in reverse.
        output: ``"binary"`` or ``"gaussian"``.
        activation: the non-linearity: tanh, relu, silu, softplus, sigmoid or leaky_relu.
        encoder: a network of your own, ``rows x visible`` to ``rows x 2 latent`` (means, then logarithms of deviations). A saved
            run cannot rebuild it: ``dgm.load(run, model=gsn)``.
        decoder: likewise, ``rows x latent`` to ``rows x visible``.

    Raises:
        ValueError: a number below one, an unknown output or activation.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.ShapedGSN(6, latent=2, hidden=(8,)).sample(3, steps=10).shape
        torch.Size([3, 6])
    """

    rounds_safely = True

    def __init__(
        self,
        visible: int,
        latent: int = 50,
        hidden: Sequence[int] = (500, 500),
        output: str = "binary",
        activation: str = "relu",
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        if output == "categorical":
            raise ValueError(
                "output got 'categorical'; the means of a chain are no one-hot rows, take 'binary' or 'gaussian'"
            )
        super().__init__(visible, 0, output, "none", None, None, None)
        self.latent = check_count("latent", latent, what="the number of latent variables")
        self.hidden, self.activation = check_counts("hidden", hidden, fewest=0), activation
        up, down = (self.visible, *self.hidden, 2 * self.latent), (self.latent, *reversed(self.hidden), self.visible)
        self.encoder = network(self, "encoder", encoder, lambda: mlp(up, activation), up[0], up[-1])
        self.decoder = network(self, "decoder", decoder, lambda: mlp(down, activation), down[0], down[-1])

    def encode(self, x: Tensor) -> dist.TorchDistribution:
        """$q(z | x)$: ``batch_shape`` of the rows, ``event_shape`` (latent,)."""
        return diagonal(self.encoder(self.columns.seen(x)))

    def observe(self, z: Tensor) -> dist.TorchDistribution:
        """The law of rows around $g(z)$: ``batch_shape`` of the codes, ``event_shape`` (visible,)."""
        return self.columns.law(self.decoder(z))

    def loop(self, x: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        r"""By step, with gradients: $-\log p(x \mid z_i)$, $\mathrm{KL}(q(z_i \mid x_{i-1}) \| p(z))$, and rows around $x_i$.

        Drawn bits have the gradient of their means (straight through), which is biased.
        """
        at = x
        for _ in range(steps):
            code = self.encode(at)
            prior = dist.Normal(torch.zeros_like(code.mean), 1.0).to_event(1)
            law = self.observe(code.rsample())
            at = law.mean
            drawn = law.rsample() if law.has_rsample else at + (law.sample() - at).detach()
            yield -law.log_prob(x), kl_divergence(code, prior), drawn

    def opening(self, x: Tensor) -> State:
        return {"visible": x, "mean": x, "log_step": x.new_zeros(len(x))}

    def rebuild(self, state: State, clean: Mapping[str, Tensor] | None = None) -> tuple[State, dict[str, Any]]:
        law = self.observe(self.encode(state["mean"]).rsample())
        return {"mean": law.mean}, {"visible": law}

    def next_state(self, state: State, clamp: Clamp | None) -> State:
        new = super().next_state(state, clamp)
        return new if clamp is None else self.put_back(new, clamp)

    def put_back(self, state: State, clamp: Clamp) -> State:
        """As in the base class, with the means of known entries too, since the chain goes over these."""
        return super().put_back(state, clamp) | {"mean": torch.where(*clamp["visible"], state["mean"])}

    def output_at(self, x: Tensor) -> Tensor:
        return self.decoder(self.encode(x).mean)

    def hidden_features(self, x: Tensor) -> Tensor:
        """The means of codes: ``rows x latent``."""
        with torch.no_grad(), evaluating(self):
            return self.encode(x).mean

    def last_bias(self) -> Tensor | None:
        return bias_of(self.decoder, self.visible)

    def objective(
        self,
        steps: int = 10,
        discount: float = 0.1,
        kl_weight: float = 1.0,
        weight: float = 20.0,
        penalty: float = 0.05,
        guide: Sequence[int] = (500, 500),
        rate: float = 1.0,
    ) -> Objective:
        """Rebuilding, and shaping against a guide that is a ``dgm.Discriminator`` (``dgm.Shaping``).

        Args:
            steps, discount, kl_weight, weight, penalty, rate: as for ``dgm.Shaping``.
            guide: units of the guide's hidden layers.
        """
        net = Discriminator(self.visible, guide, "leaky_relu", dropout=0.0, input_dropout=0.0)
        return Shaping(net, steps, discount, kl_weight, weight, penalty, rate)

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible, "latent": self.latent, "hidden": list(self.hidden), "output": self.output,
            "activation": self.activation,
        }  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(4, latent=2, hidden=(6,)), lambda: bits(10, 4))
