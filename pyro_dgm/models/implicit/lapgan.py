"""Laplacian pyramid of generative adversarial networks, section 20.10.4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import pyro
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_count, check_counts
from ...nets.bodies import mlp, picture_sizes
from ...nets.discriminator import Discriminator
from ...nets.layers import enlarged
from ...objectives.criteria.adversarial import Adversarial, Match, Play
from ...objectives.criteria.games import Game
from ...objectives.objective import Objective
from ..shared.examples import seeded
from ..shared.generator import GeneratorModel


class LAPGAN(GeneratorModel):
    r"""Pictures from coarse to fine by a generator for every level of a Laplacian pyramid (Denton et al. 2015).

    A picture $I_0$ has the pyramid $I_{k+1} = \mathrm{down}(I_k)$, means of 2x2 pixels, and residuals $h_k = I_k -
    \mathrm{up}(I_{k+1})$, where up repeats pixels: $I_k = \mathrm{up}(I_{k+1}) + h_k$ exactly. The coarsest level is a GAN of
    $I_K$; at every finer one $h_k = g_k(z_k, \mathrm{up}(I_{k+1}))$. Every level plays a game (20.80-81) of its own, on the
    data's own coarse pictures; samples go through all levels, on generated ones.

    ``model(x)`` has the sites ``"z0"`` to ``"zK"``, one per level from fine to coarse, and ``"x"``, ``rows x pixels``. A pyramid
    has more numbers than the picture, so that a density of residuals is none of pictures; with ``noise`` the picture itself
    has output noise, and a density.

    Args:
        shape: height and width of a picture, or channels, height and width.
        levels: the number of levels above the coarsest, K; both sides are divisible by $2^K$.
        latent: latents of the coarsest level.
        hidden: units of its dense hidden layers.
        channels: channels of the hidden convolutions of the finer levels, which take the coarse picture and a plane of noise.
        kernel: the side of their filters, odd.
        output: what the coarsest level's last layer is followed by: ``"sigmoid"``, ``"tanh"`` or ``"linear"``.
        noise: the standard deviation of the output noise; 0 for none.
        prior: ``"uniform"`` or ``"normal"``.

    Raises:
        ValueError: no picture's shape, sides that the levels do not divide, or a number below one.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.LAPGAN((28, 28), levels=2, latent=8, hidden=(16,), channels=(4,)).sample(3).shape
        torch.Size([3, 784])
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int = 2,
        latent: int = 100,
        hidden: Sequence[int] = (400, 400),
        channels: Sequence[int] = (32, 32),
        kernel: int = 5,
        output: str = "sigmoid",
        noise: float = 0.0,
        prior: str = "uniform",
    ) -> None:
        levels = check_count("levels", levels, what="the number of levels above the coarsest")
        size = picture_sizes(shape, (1,))[0]
        if size[1] % 2**levels or size[2] % 2**levels:
            raise ValueError(
                f"shape got {tuple(shape)} with levels={levels}; expected sides divisible by {2**levels}, 2 for every level"
            )
        super().__init__(math.prod(size), noise, prior, output)
        self.shape, self.levels, self.hidden = tuple(shape), levels, check_counts("hidden", hidden, fewest=0)
        self.latent = check_count("latent", latent, what="the number of latent variables of the coarsest level")
        self.channels, self.kernel = check_counts("channels", channels, fewest=0), check_count("kernel", kernel)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel got {kernel}; expected an odd side")
        self.sizes = [(size[0], size[1] >> k, size[2] >> k) for k in range(levels + 1)]
        self.coarsest = mlp((self.latent, *self.hidden, math.prod(self.sizes[-1])), "relu")
        self.finer = nn.ModuleList(_convolutions(size[0], self.channels, self.kernel) for _ in range(levels))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """The pictures of all levels from fine to coarse, each ``rows x channels x height x width``.

        Args:
            x: ``rows x pixels``.
        """
        pictures = [x.view(-1, *self.sizes[0])]
        for _ in range(self.levels):
            pictures.append(F.avg_pool2d(pictures[-1], 2))
        return pictures

    def residuals(self, x: Tensor) -> list[Tensor]:
        r"""$h_0$ to $h_{K-1}$, from fine to coarse: pictures less the enlarged ones of the next level."""
        pictures = self.pyramid(x)
        return [fine - enlarged(coarse) for fine, coarse in zip(pictures[:-1], pictures[1:], strict=True)]

    def latents(self) -> list[Tensor]:
        planes = [self.noise_of(height * width) for _, height, width in self.sizes[:-1]]
        return [pyro.sample(f"z{k}", law) for k, law in enumerate([*planes, self.noise_of(self.latent)])]

    def means(self, latents: list[Tensor]) -> Tensor:
        batch = latents[0].shape[:-1]
        picture = self._coarse(latents[-1].reshape(-1, self.latent))
        for k in reversed(range(self.levels)):
            coarse = enlarged(picture)
            picture = coarse + self._residual(k, latents[k].reshape(-1, latents[k].shape[-1]), coarse)
        return picture.reshape(*batch, self.visible)

    def _coarse(self, z: Tensor) -> Tensor:
        return self.finish(self.coarsest(z)).view(-1, *self.sizes[-1])

    def _residual(self, level: int, z: Tensor, coarse: Tensor) -> Tensor:
        plane = z.view(-1, 1, *self.sizes[level][1:])
        return self.finer[level](torch.cat([coarse, plane], 1))

    def matches(self) -> dict[str, Match]:
        """The games of all levels, by the sides of their pictures, for ``dgm.Adversarial``."""
        names = [f"{height}x{width}" for _, height, width in self.sizes]

        def coarsest(x: Tensor) -> tuple[Tensor, Tensor]:
            return self.pyramid(x)[-1].flatten(1), self._coarse(self.noise_of(self.latent).sample((len(x),))).flatten(1)

        def finer(level: int, x: Tensor) -> tuple[Tensor, Tensor]:
            fine, coarse = self.pyramid(x)[level], enlarged(self.pyramid(x)[level + 1])
            z = self.noise_of(self.sizes[level][1] * self.sizes[level][2]).sample((len(x),))
            made = coarse + self._residual(level, z, coarse)
            return torch.cat([fine, coarse], 1).flatten(1), torch.cat([made, coarse], 1).flatten(1)

        found = {names[-1]: Match(coarsest, list(self.coarsest.parameters()))}
        for k in range(self.levels):
            found[names[k]] = Match(lambda x, k=k: finer(k, x), list(self.finer[k].parameters()))  # type: ignore[misc]
        return found

    def initialise(self, x: Tensor) -> None:
        """Start the coarsest level's last bias at the means of the coarse pictures."""
        mean = self.pyramid(x)[-1].flatten(1).mean(0)
        last: Any = self.coarsest[-1]
        with torch.no_grad():
            last.bias.copy_(self.inverse(mean))

    def objective(
        self,
        game: Game = "non-saturating",
        steps: int = 1,
        play: Play = "alternating",
        rate: float = 1.0,
        discriminator: Sequence[int] = (240, 240),
        channels: Sequence[int] = (32, 64),
        dropout: float = 0.5,
        input_dropout: float = 0.2,
    ) -> Objective:
        """Every level's game against a discriminator of its own, which at finer levels sees the picture and the coarse one.

        Args:
            game, steps, play, rate: as for ``dgm.Adversarial``.
            discriminator: units of the maxout layers at the coarsest level.
            channels: channels of the convolutions at the others.
            dropout, input_dropout: as for ``dgm.Discriminator``.
        """
        players: dict[str, nn.Module] = {}
        for k, (planes, height, width) in enumerate(self.sizes):
            pixels = planes * height * width
            players[f"{height}x{width}"] = (
                Discriminator(pixels, discriminator, dropout=dropout, input_dropout=input_dropout)
                if k == self.levels
                else Discriminator(
                    2 * pixels, (), dropout=dropout, input_dropout=input_dropout, body="convolutional",
                    shape=(2 * planes, height, width), channels=channels,
                )
            )  # fmt: skip
        return Adversarial(players, game, steps, play, rate)

    def options(self) -> dict[str, Any]:
        return {
            "shape": list(self.shape), "levels": self.levels, "latent": self.latent, "hidden": list(self.hidden),
            "channels": list(self.channels), "kernel": self.kernel, **self.output_options(),
        }  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(
            lambda: cls((4, 4), levels=1, latent=2, hidden=(4,), channels=(2,), kernel=3, noise=0.5),
            lambda: torch.rand(10, 16),
        )


def _convolutions(planes: int, channels: Sequence[int], kernel: int) -> nn.Module:
    """A map from a picture and a plane of noise to a residual."""
    widths = (planes + 1, *channels, planes)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
