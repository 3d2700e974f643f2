"""Variational autoencoder of data given their class, section 20.10.3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

from ...checks import check_count, check_counts
from ...distributions.standard_normal import standard_normal
from ...inference.importance import log_weights
from ...inference.posterior import metropolis_step
from ...nets.bodies import mlp
from ...objectives.objective import Objective
from ..shared.chain_details import Step
from ..shared.decoded import DecodedModel, diagonal
from ..shared.examples import bits, seeded
from ..shared.given_labels import GivenLabels
from ..shared.latent import Bound, bound_objective
from ..shared.own_networks import network
from ..shared.rows import check_rows

_DECODED_ROWS = 10_000
"""Particles times classes times rows that ``predict_proba`` decodes at once; it bounds the memory."""


class ConditionalVAE(GivenLabels, DecodedModel):
    r"""Variational autoencoder of x given a class y (Kingma et al. 2014; Sohn, Lee and Yan 2015).

    $p(x, z \mid y) = \mathcal N(z; 0, I)\, p(x \mid z, y)$ and $q(z \mid x, y)$ a diagonal normal, trained on
    $E_q[\log p(x, z \mid y)] + H(q) \le \log p(x \mid y)$, which is (20.76-78) for every class. Rows hold the visible
    columns and then a one-hot label, as ``dataset.labelled(classes)`` makes them.

    All its log-likelihoods and bounds are those **of x given y**, in nats: y has no model and no log-probability. They
    compare neither with log p(x) nor with log p(x, y).

    ``model(x)`` has the sites ``"z"``, ``rows x latent``, and ``"x"``, ``rows x (visible + classes)``; without rows also
    ``"label"``, drawn uniformly.

    Args:
        visible: the number of visible columns, without the label.
        classes: the number of classes.
        latent: the number of latent variables.
        hidden: units of the encoder's hidden layers; the decoder has them in reverse.
        output: ``"binary"``, ``"gaussian"`` or ``"logistic"``, as for ``dgm.VAE``.
        activation: the non-linearity: tanh, relu, silu or softplus.
        levels: the number of grey levels of ``"logistic"`` output, 256 by default.
        encoder: a network of your own, ``rows x (visible + classes)`` to ``rows x 2 latent``, as for ``dgm.VAE``.
        decoder: likewise, ``rows x (latent + classes)`` to ``rows x visible``.

    Attributes:
        encoder: the network of q; it takes a row with its label.
        decoder: the network of p; it takes the latents and then a label.

    Raises:
        ValueError: a number of units or classes below one, an unknown output or activation.

    Example:
        >>> import torch
        >>> import pyro_dgm as dgm
        >>> vae = dgm.ConditionalVAE(784, classes=10, latent=2, hidden=(64,))
        >>> vae.sample(3, labels=torch.tensor([7, 7, 1])).shape
        torch.Size([3, 794])
    """

    def __init__(
        self,
        visible: int,
        classes: int = 10,
        latent: int = 50,
        hidden: Sequence[int] = (200, 200),
        output: str = "binary",
        activation: str = "tanh",
        levels: int | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__(visible, output, levels)
        visible, classes = self.visible, check_count("classes", classes, what="the number of classes")
        latent, hidden = (
            check_count("latent", latent, what="the number of latent variables"),
            check_counts("hidden", hidden, fewest=0),
        )
        self.classes, self.latent, self.hidden, self.activation = classes, latent, hidden, activation
        below, above = visible + classes, latent + classes
        self.encoder = network(
            self, "encoder", encoder, lambda: mlp((below, *hidden, 2 * latent), activation), below, 2 * latent
        )
        self.decoder = network(
            self, "decoder", decoder, lambda: mlp((above, *reversed(hidden), visible), activation), above, visible
        )

    check_columns = DecodedModel.check_columns

    def encode(self, x: Tensor) -> dist.TorchDistribution:
        """$q(z | x, y)$ of rows with their labels: ``event_shape`` (latent,)."""
        return diagonal(self.encoder(self.seen(x)))

    def observe(self, z: Tensor, label: Tensor) -> Any:
        """$p(x | z, y)$ with one-hot labels: ``batch_shape`` of the codes, ``event_shape`` (visible,)."""
        both = torch.cat([z, label.expand(*z.shape[:-1], self.classes)], -1)
        return self.columns(self.decoder(both)).to_event(1)

    def latents(self) -> Tensor:
        like = next(self.decoder.parameters())
        return pyro.sample("z", standard_normal(self.latent, like))

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

    def predict_proba(self, x: Tensor, particles: int = 100) -> Tensor:
        r"""Probabilities of the classes given the visible columns, under a uniform prior: ``rows x classes``.

        $p(y \mid x) \propto p(x \mid y)$ with every $p(x \mid y)$ the mean of K importance weights. It is consistent;
        for small K it favours classes whose q fits well.

        Args:
            x: rows; a label behind the visible columns is ignored.
            particles: the number of draws per row, K.

        Raises:
            ValueError: rows of another width, or no particle.
        """
        particles = check_count("particles", particles)
        if isinstance(x, Tensor) and x.shape[1:] == (self.visible + self.classes,):
            x = x[:, : self.visible]
        check_rows(x, torch.Size([self.visible]), "predict_proba")
        self.check_columns(x)
        label = torch.eye(self.classes).to(x)
        probabilities = []
        with torch.no_grad():
            for rows in x.split(max(_DECODED_ROWS // (particles * self.classes), 1)):
                pairs = rows.repeat_interleave(self.classes, 0), label.repeat(len(rows), 1)
                weights = log_weights(self.model, self.guide, torch.cat(pairs, 1), particles=particles)
                probabilities.append(torch.softmax(weights.logsumexp(0).view(-1, self.classes), 1))
        return torch.cat(probabilities)

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        r"""Yield the state after every step of one chain per row, by Metropolis within Gibbs, under a uniform prior of labels.

        Latents are proposed from the guide; then the label is drawn from $p(y \mid x_b, z)$ among those that the row's
        known label columns allow, and the unknown columns from $p(x_a \mid z, y)$.

        Raises:
            ValueError: known label columns that fit no class.
        """
        known = known.expand(x.shape)
        allowed = self.labels_allowed(x, known)
        label = dist.OneHotCategorical(logits=allowed).sample()
        current = torch.where(known, x, self.sample(len(x), label.argmax(1)))
        latents = pyro.poutine.trace(self.guide).get_trace(current)
        while True:
            moved = metropolis_step(self.model, self.guide, latents, current)
            latents = moved.latents
            z = latents.nodes["z"]["value"]
            label = self.label_given(z, current, known, allowed)
            current = torch.where(known, x, torch.cat([self.observe(z, label).sample(), label], 1))
            yield Step(current, moved.accepted, moved.log_joint, moved.log_weights)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "classes": self.classes, "latent": self.latent, "hidden": list(self.hidden),
                **self.output_options(), "activation": self.activation}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(
            lambda: cls(5, classes=3, latent=2, hidden=(4,)),
            lambda: torch.cat([bits(10, 5), torch.eye(3)[torch.arange(10) % 3]], 1),
        )
