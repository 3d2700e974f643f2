"""Convolutional spike-and-slab restricted Boltzmann machine, sections 20.5.4 and 20.6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_count
from ...energy import BoltzmannDistribution, Convolution, Gaussian, Graph, SpikeSlab
from ..shared.examples import seeded
from ..shared.pictures import picture_of, resized_picture
from ..shared.slabs import SLACK, SlabMixture


class ConvolutionalSpikeSlabRBM(SlabMixture):
    r"""Spike-and-slab RBM of pictures whose filters are shared by all positions (Courville et al. 2014).

    The energy is (20.50) with a spike $h_{fp}$ and slabs $s_{fpk}$ for every filter f and position p, and with
    $W_{fpk}[c, p+u] = W_{fk}[c, u]$, $\Phi_{fp}[c, p+u] = \Phi_f[c, u]$ and zero elsewhere; $\mu$, $\alpha$ and b belong to the
    filter (20.6). Conditionals are those of ``dgm.SpikeSlabRBM``, (20.51-53), with these matrices, which sweeps never build.
    Rows are flat pictures, in the order channels, height, width; spikes are in the order of ``maps``.

    **Validity.** $C^{-1}$ is positive definite for every h. A pixel j divides its $\Lambda_j$ among the spikes that see
    it: let $n_j$ be their number (or more). With $s_j = \Phi_f[c, u] + \Lambda_j / n_j$ at the pixels j = (c, p+u) of a
    position, Cauchy's inequality gives $(W_{fpk}^\top x)^2 \le \sum_j \frac{W_{fk}[c,u]^2}{s_j} \sum_j s_j x_j^2$, so that for

    $\alpha_{fk} = a_{fk} + 1.0001\, K \max_p \sum_{c,u} \frac{W_{fk}[c,u]^2}{\Phi_f[c,u] + \Lambda_j / n_j}$, $a > 0$,

    every spike has $\sum_k W_{fpk} \alpha_{fk}^{-1} W_{fpk}^\top \prec \mathrm{diag}_{j \in p}(s_j)$, and over the spikes
    that are on, the right sides sum to at most $\Lambda + \sum h_{fp} \Phi_{fp}$. That needs no $\Phi$: with $\Phi = 0$ the
    shares $\Lambda_j / n_j$ suffice. The maximum over positions makes $\alpha$ the same at all of them; pixels outside the
    picture contribute nothing.

    With ``tied`` $\Lambda$ is one number per channel, and n the most spikes that can see a pixel of any picture: the number of
    filters times the size of one. Then nothing depends on the picture's size: ``resized`` is the same machine for
    other pictures. Without it $\Lambda$ has an entry for every pixel, $n_j$ is exact, and the size is fixed.

    The energy has no visible bias: subtract the data's mean first. A first ``fit`` sets $\Lambda$ from the data's variances,
    and scales $\Phi$ and W to it. Without a visible bias a gradient cannot be centred.

    Args:
        visible: the number of pixels, over all channels.
        filters: the number of filters.
        size: height and width of a filter, or both in one number.
        shape: height and width of a picture, or channels, height and width; by default a square of one channel.
        slabs: K, slabs per spike.
        square: learn $\Phi$, filters of positive entries; otherwise it is 0.
        padding: ``"valid"`` positions in the picture, or the ``"full"`` ones that touch it (``dgm.Convolution``).
        tied: one $\Lambda$ per channel.

    Attributes:
        weight: $W$, ``filters x slabs x channels x height x width`` of a filter.
        slab_mean: $\mu$, ``filters x slabs``.
        hidden_bias: $b$, ``filters``.
        log_precision: $\log\Lambda$, ``channels`` or (untied) ``visible``.
        log_square: $\log\Phi$, ``filters x channels x height x width`` of a filter (with ``square``).
        log_slab: $\log a$, ``filters x slabs``.
        maps: filters and positions, the shape of the spikes.

    Raises:
        ValueError: a number of units, filters or slabs below one; a shape, size or padding that does not fit.

    Courville, Desjardins, Bergstra and Bengio (2014), "The spike-and-slab RBM and extensions to discrete and sparse data
    distributions"; Luo, Carrier, Courville and Bengio (2013), "Texture modeling with convolutional spike-and-slab RBMs
    and deep extensions".

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> ssrbm = dgm.ConvolutionalSpikeSlabRBM(64, filters=4, size=5)
        >>> ssrbm.maps, ssrbm.resized((16, 12)).sample(2, sweeps=5).shape
        ((4, 4, 4), torch.Size([2, 192]))
    """

    _data_dims = (2, 1)
    _validate = False  # alpha's formula ensures validity; a check would build the dense matrices

    def __init__(
        self,
        visible: int,
        filters: int = 32,
        size: int | Sequence[int] = 5,
        shape: Sequence[int] | None = None,
        slabs: int = 1,
        square: bool = True,
        padding: str = "valid",
        tied: bool = True,
    ) -> None:
        super().__init__()
        filters = check_count("filters", filters, what="the number of filters")
        slabs = check_count("slabs", slabs, what="how many slabs a spike has")
        picture = picture_of(visible, shape)
        couplings = [Convolution("visible", "hidden", picture, size, padding, inner=slice(1, None))]
        if square:
            couplings.append(Convolution(("visible", 1), "hidden", picture, size, padding, inner=0))
        self._coupling = couplings[0]
        self.maps = (filters, *self._coupling.positions)
        self.visible, self.hidden, self.slabs, self.square = visible, math.prod(self.maps), slabs, square
        self.filters, self.size, self.padding, self.tied = filters, self._coupling.size, padding, tied
        self.shape = self._coupling.picture
        self._graph = Graph({"visible": Gaussian(visible), "hidden": SpikeSlab(self.hidden, 1 + slabs)}, couplings)
        channels, *sides = picture[0], *self._coupling.size
        # Weights of order one, as in SpikeSlabRBM: small weights and equal slabs would make the filters alike.
        self.weight = nn.Parameter(torch.randn(filters, slabs, channels, *sides))
        self.slab_mean = nn.Parameter(torch.zeros(filters, slabs))
        self.hidden_bias = nn.Parameter(torch.zeros(filters))
        self.log_precision = nn.Parameter(torch.zeros(channels if tied else visible))
        self.log_slab = nn.Parameter(torch.zeros(filters, slabs))
        if square:
            # A pixel is seen from prod(sides) positions of a filter: together they start with the phi of a dense filter.
            self.log_square = nn.Parameter(torch.full((filters, channels, *sides), -math.log(math.prod(sides))))

    @property
    def precision(self) -> Tensor:
        r"""$\Lambda$, ``visible``."""
        precision = self.log_precision.exp()
        return precision.repeat_interleave(self.visible // len(precision)) if self.tied else precision

    @property
    def phi(self) -> Tensor:
        r"""$\Phi$, ``filters x channels x height x width`` of a filter."""
        return self.log_square.exp() if self.square else self.weight.new_zeros(self.weight[:, 0].shape)

    @property
    def alpha(self) -> Tensor:
        r"""$\alpha$, ``filters x slabs``, large enough for a positive definite precision."""
        sides, positions = self._coupling.size, math.prod(self._coupling.positions)
        if self.tied:
            # All positions inside the picture are alike, and need the most.
            lent = (self.log_precision.exp() / (self.filters * math.prod(sides))).repeat_interleave(math.prod(sides))
            share = self.phi.flatten(1).unsqueeze(-1) + lent.unsqueeze(-1)
        else:
            pad, (_, *picture) = self._coupling._pad, self._coupling.picture
            ones = self.weight.new_ones(1, math.prod(sides), positions)
            spikes_per_pixel = self.filters * F.fold(ones, tuple(picture), sides, padding=pad)
            lent = F.unfold(
                (self.precision.view(1, *self._coupling.picture) / spikes_per_pixel), sides, padding=pad
            ).squeeze(0)
            share = self.phi.flatten(1).unsqueeze(-1) + lent
            share = torch.where(lent > 0, share, torch.inf)
        need = (self.weight.flatten(2) ** 2 @ (1 / share)).amax(-1)
        return self.log_slab.exp() + (1 + SLACK) * self.slabs * need

    def forward(self, hidden_shift: Tensor | None = None) -> BoltzmannDistribution:
        dist = super().forward(hidden_shift)
        dist.check_finite()
        return dist

    def _slabs(self) -> tuple[Tensor, Tensor, Tensor]:
        bias, mean, alpha = (
            t.repeat_interleave(self.hidden // self.filters, 0) for t in (self.hidden_bias, self.slab_mean, self.alpha)
        )
        return bias, mean, alpha

    def _couplings(self) -> list[Tensor]:
        return [self.weight] + ([-0.5 * self.phi] if self.square else [])

    def _unrolled(self) -> tuple[Tensor, Tensor]:
        pixels = torch.eye(self.visible, dtype=self.weight.dtype, device=self.weight.device)
        statistics = {"visible": (pixels, pixels)}
        weight, *squares = (
            interaction.field(1, statistics, weight).unflatten(-1, (self.hidden, -1))
            for interaction, weight in zip(self._graph.interactions, self._couplings(), strict=True)
        )
        return weight[..., 1:], -2 * squares[0][..., 0] if squares else weight[..., 0]

    def resized(self, shape: Sequence[int]) -> Self:
        """The same filters for pictures of another size: a machine with a copy of the parameters.

        Args:
            shape: height and width, or channels, height and width.

        Raises:
            ValueError: a machine that is not ``tied``; other channels; a picture smaller than a filter.
        """
        if not self.tied:
            raise ValueError("this machine has a precision for every pixel; only one with tied=True can be resized")
        picture = resized_picture(shape, self._coupling.picture[0])
        other = type(self)(**{**self.options(), "visible": math.prod(picture), "shape": list(shape)}).to(self.weight)
        other.load_state_dict(self.state_dict())
        other.fresh = self.fresh
        return other

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "filters": self.filters, "size": list(self.size),
                "shape": list(self.shape), "slabs": self.slabs, "square": self.square,
                "padding": self.padding, "tied": self.tied}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=9, filters=2, size=2), lambda: torch.randn(10, 9), scale=0.7)
