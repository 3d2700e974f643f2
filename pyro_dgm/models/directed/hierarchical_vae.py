"""Variational autoencoder with several stochastic layers, section 20.10.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...checks import check_count, check_counts
from ...distributions.standard_normal import standard_normal
from ...nets.bodies import mlp
from ...objectives.objective import Objective
from ..shared.decoded import DecodedModel, diagonal
from ..shared.examples import bits, seeded
from ..shared.latent import Bound, bound_objective
from ..shared.own_networks import network
from ..shared.rows import check_rows, known_alone


class HierarchicalVAE(DecodedModel):
    r"""Variational autoencoder with L stochastic layers, the two-layer model of Burda, Grosse and Salakhutdinov (2015).

    $p(x, z) = \mathcal N(z_L; 0, I) \prod_{l<L} p(z_l \mid z_{l+1})\, p(x \mid z_1)$ and
    $q(z \mid x) = q(z_1 \mid x) \prod_{l<L} q(z_{l+1} \mid z_l)$, all conditionals diagonal normals whose means and log
    standard deviations come from networks of ``depth`` hidden layers, with the same widths downwards and upwards. It is trained
    on the importance-weighted bound $E \log \frac1K \sum_k w_k \le \log p(x)$ (20.79), in nats.

    ``model(x)`` has the sites ``"z1"`` (next to the data) to ``"zL"``, ``rows x latent[l - 1]``, and ``"x"``. The guide
    draws upwards, so no KL term has a closed form: ``"zl"`` is drawn before the layer on which its prior depends.

    Args:
        visible: the number of columns of the data.
        latent: latent variables of every stochastic layer, the lowest first.
        hidden: units of the deterministic layers below every stochastic layer, the lowest first.
        depth: the number of deterministic layers below every stochastic layer; with 0 the networks are affine.
        output: ``"binary"``, ``"gaussian"`` or ``"logistic"``, as for ``dgm.VAE``.
        activation: the non-linearity: tanh, relu, silu or softplus.
        levels: the number of grey levels of ``"logistic"`` output, 256 by default.
        decoder: a network of your own, ``rows x latent[0]`` to ``rows x visible``, as for ``dgm.VAE``.

    Attributes:
        encoders: the networks of $q(z_1 \mid x), q(z_2 \mid z_1), \ldots$
        priors: the networks of $p(z_1 \mid z_2), p(z_2 \mid z_3), \ldots$
        decoder: the network of $p(x \mid z_1)$.

    Raises:
        ValueError: no stochastic layer, a number of units below one, unequal numbers of widths and layers, an unknown
            output or activation.

    See also:
        ``dgm.VAE``, the same model with one layer.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae = dgm.HierarchicalVAE(784, latent=(20, 5), hidden=(64, 32))
        >>> vae.sample(3).shape
        torch.Size([3, 784])
    """

    def __init__(
        self,
        visible: int,
        latent: Sequence[int] = (100, 50),
        hidden: Sequence[int] = (200, 100),
        depth: int = 2,
        output: str = "binary",
        activation: str = "tanh",
        levels: int | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__(visible, output, levels)
        latent = check_counts("latent", latent, "the latent variables of every layer", "(100, 50)")
        hidden = check_counts("hidden", hidden)
        if len(latent) != len(hidden):
            raise ValueError(
                f"latent and hidden got {latent!r} and {hidden!r}; expected as many widths of deterministic layers as there "
                "are stochastic layers"
            )
        depth = check_count("depth", depth, 0, "the number of deterministic layers")
        self.latent, self.hidden, self.depth, self.activation = latent, hidden, depth, activation
        below = (self.visible, *latent[:-1])
        layers = list(zip(below, latent, hidden, strict=True))
        self.encoders = nn.ModuleList(mlp((n, *depth * [h], 2 * m), activation) for n, m, h in layers)
        self.priors = nn.ModuleList(mlp((m, *depth * [h], 2 * n), activation) for n, m, h in layers[1:])
        self.decoder = network(
            self, "decoder", decoder, lambda: mlp((latent[0], *depth * [hidden[0]], self.visible), activation), latent[0],
            self.visible,
        )  # fmt: skip

    def observe(self, z: Tensor) -> dist.TorchDistribution:
        """$p(x | z_1)$: ``batch_shape`` of the codes, ``event_shape`` (visible,)."""
        return self.columns(self.decoder(z)).to_event(1)

    def prior(self, layer: int, above: Tensor | None) -> dist.TorchDistribution:
        """$p(z_l | z_{l+1})$, with l from 1: ``event_shape`` (latent[l - 1],); the top layer has no ``above``."""
        if above is not None:
            return diagonal(self.priors[layer - 1](above))
        like = next(self.decoder.parameters())
        return standard_normal(self.latent[layer - 1], like)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        with self.data_plate(x, size):
            z = pyro.sample(f"z{len(self.latent)}", self.prior(len(self.latent), None))
            for layer in range(len(self.latent) - 1, 0, -1):
                z = pyro.sample(f"z{layer}", self.prior(layer, z))
            columns, known = known_alone(self.observe(z), x)
            return pyro.sample("x", columns, obs=known)

    def infer(self, x: Tensor, size: int | None = None) -> None:
        below = self.seen(x)
        with self.data_plate(x, size):
            for number, encoder in enumerate(self.encoders):
                below = pyro.sample(f"z{number + 1}", diagonal(encoder(below)))

    def objective(
        self, kind: Bound = "iwae", particles: int = 5, kl_weight: float | None = None, kl_warmup: float | None = None
    ) -> Objective:
        """The importance-weighted bound of K particles, its other gradient ``"dreg"``, or the mean ``"elbo"`` over K.

        ``kl_weight`` and ``kl_warmup``, of ``"elbo"``, are those of ``dgm.Elbo``.
        """
        return bound_objective(kind, particles, kl_weight=kl_weight, kl_warmup=kl_warmup)

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), "HierarchicalVAE", missing=True)
        self.check_columns(x)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "latent": list(self.latent), "hidden": list(self.hidden), "depth": self.depth,
                **self.output_options(), "activation": self.activation}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(6, latent=(3, 2), hidden=(5, 4), depth=1), lambda: bits(10, 6))
