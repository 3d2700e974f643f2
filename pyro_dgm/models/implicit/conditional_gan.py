"""Conditional generative adversarial network, section 20.10.4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor, nn

from ...checks import check_count
from ...nets.modes import evaluating
from ..shared.chain_details import Step
from ..shared.examples import seeded
from ..shared.generator import ConditionalMoves
from ..shared.given_labels import GivenLabels
from ..shared.network_generator import NetworkGenerator


class ConditionalGAN(GivenLabels, NetworkGenerator):
    r"""Generative adversarial network of x given a class y (Mirza and Osindero 2014).

    $x = g(z, y)$, trained in the game of (20.80-81); rows hold the visible columns and then a one-hot label, as
    ``dataset.labelled(classes)`` makes them. In training generated rows take their labels from the data, so that the best
    discriminator is $\log p(x \mid y) / q(x \mid y)$ whatever the classes' shares. All figures are those **of x given y**.

    ``model(x)`` has the sites ``"z"``, ``rows x latent``, and ``"x"``, ``rows x (visible + classes)``; without rows also
    ``"label"``, drawn uniformly.

    Args:
        visible: the number of visible columns, without the label.
        classes: the number of classes.
        latent, hidden, activation, output, noise, prior, body, shape, channels, kernel, normalise, unpool: as for ``dgm.GAN``.
        generator: a network of your own, ``rows x (latent + classes)`` to ``rows x visible``.

    Raises:
        ValueError: as for ``dgm.GAN``, or no class.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> gan = dgm.ConditionalGAN(784, classes=10, latent=20, hidden=(64,))
        >>> gan.sample(3, labels=7).shape
        torch.Size([3, 794])
    """

    def __init__(
        self,
        visible: int,
        classes: int = 10,
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
        classes = check_count("classes", classes, what="the number of classes")
        super().__init__(
            classes, visible, latent, hidden, activation, output, noise, prior, body, shape, channels, kernel, normalise, unpool,
            generator,
        )  # fmt: skip
        self.classes = classes

    latents = NetworkGenerator.latents
    density_columns = NetworkGenerator.density_columns
    check_columns = NetworkGenerator.check_columns

    def observe(self, z: Tensor, label: Tensor) -> Any:
        both = torch.cat([z, label.expand(*z.shape[:-1], self.classes)], -1)
        return self.around(self.means(both))

    def generate(self, x: Tensor | None = None, size: int | None = None, labels: Tensor | None = None) -> Tensor:
        if x is not None:
            self._check_density("the program has no density at given rows")
        return super().generate(x, size, labels)

    def sample(self, n: int, labels: Tensor | int | None = None) -> Tensor:
        """Rows with their labels, as ``dgm.ConditionalVAE`` draws them."""
        with evaluating(self):
            return super().sample(n, labels)

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Step]:
        r"""Yield the state after every step of one chain per row, under a uniform prior of labels.

        z moves by Hamiltonian Monte Carlo, then the label is drawn from $p(y \mid x_b, z)$ among those that its known columns
        allow, and unknown columns from $p(x_a \mid z, y)$.

        Raises:
            ValueError: there is no output noise; known label columns that fit no class.
        """
        self._check_density("conditionals are not defined")
        known = known.expand(x.shape)
        seen, allowed = torch.where(known, x, torch.nan)[:, : self.visible], self.labels_allowed(x, known)
        label = OneHotCategorical(logits=allowed).sample()
        moves = ConditionalMoves(self, torch.cat([seen, label], 1), warmup)
        while True:
            latents, accepted, log_joint = moves(torch.cat([seen, label], 1))
            label = self.label_given(latents["z"], x, known, allowed)
            drawn = torch.cat([self.observe(latents["z"], label).sample(), label], 1)
            yield Step(torch.where(known, x, drawn), accepted, log_joint)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "classes": self.classes}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(
            lambda: cls(4, classes=3, latent=2, hidden=(6,), noise=0.5),
            lambda: torch.cat([torch.rand(10, 4), torch.eye(3)[torch.arange(10) % 3]], 1),
        )
