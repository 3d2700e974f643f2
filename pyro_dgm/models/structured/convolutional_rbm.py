"""Convolutional restricted Boltzmann machine, section 20.6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_count, check_share
from ...columns import location_and_variance
from ...energy import AtMostOne, Binary, BoltzmannDistribution, Convolution, Gaussian, Graph, MaxPooled, Unit
from ...energy.mean_field import mean_field
from ..shared.boltzmann import BoltzmannModel
from ..shared.examples import bits, seeded
from ..shared.pictures import picture_of, resized_picture

_UNITS: dict[str, type[Unit]] = {"binary": Binary, "gaussian": Gaussian}
_POOLINGS: dict[str, type[Unit]] = {"probabilistic": AtMostOne, "max": MaxPooled}


class ConvolutionalRBM(BoltzmannModel):
    r"""Restricted Boltzmann machine of pictures whose filters are shared by all positions (Lee et al. 2009).

    $-E(v, h) = \sum_j a_j v_j + \sum_{f,p} b_f h_{fp} + \sum_{f,p,c,u} h_{fp}\, W_{fc}[u]\, v_c[p + u]$ (20.6), so that
    $P(h_{fp} = 1 \mid v) = \sigma(b_f + \sum_{c,u} W_{fc}[u]\, v_c[p + u])$, all in nats. Pixels outside the picture are zero.
    With real pixels of precision $\beta$, $v \mid h \sim \mathcal N(a + \sum_{f} W_f * h_f,\, \beta^{-1})$ and the fields of
    hidden units are $b_f + \beta \sum W_{fc}[u]\, v_c[p + u]$, as in ``dgm.GaussianRBM``.

    With ``pool`` the hidden units are detectors in regions without overlap, each with a pooling unit:

    - ``pooling="probabilistic"``: at most one detector of a region is on, so that a region of n detectors has n + 1 states and
      its pooling unit is on if one of them is;
    - ``pooling="max"``: detectors are free, and the pooling unit is their maximum. Here it is a function of the detectors that
      does not change the law of pictures.

    Rows are flat pictures in the order channels, height, width. Filters, and biases that are shared, fit pictures of every size
    (``resized``); log Z, and so every figure, belongs to one size.

    Args:
        visible: the number of pixels, over all channels.
        filters: the number of filters.
        size: height and width of a filter, or both in one number.
        shape: height and width of a picture, or channels, height and width; by default a square of one channel.
        padding: ``"valid"`` positions in the picture, or the ``"full"`` ones that touch it (``dgm.Convolution``).
        pool: height and width of a pooling region, or both in one number; None for hidden units without regions.
        pooling: ``"probabilistic"`` or ``"max"``.
        bias: a visible bias per channel, ``"shared"``, or one per ``"pixel"``.
        unit: the visible units, ``"binary"`` or ``"gaussian"`` with one learned precision.
        share: the share of positions at which a detector is on before training; by default biases are zero, and with many
            filters a step then moves all pixels at once.

    Attributes:
        weight: $W$, ``filters x channels x height x width`` of a filter.
        visible_bias: $a$, ``channels`` or ``visible``.
        hidden_bias: $b$, ``filters``.
        log_precision: $\log\beta$, a scalar, for real pixels.
        maps: filters and positions, the shape of the hidden units without regions.

    Raises:
        ValueError: a number of pixels or filters below one; a shape, size, padding or region that does not fit; an unknown unit,
            pooling or bias; a share that detectors cannot have.

    Lee, Grosse, Ranganath and Ng (2009), "Convolutional deep belief networks for scalable unsupervised learning of
    hierarchical representations"; Desjardins and Bengio (2008), "Empirical evaluation of convolutional RBMs for vision".

    See also:
        ``dgm.ConvolutionalSpikeSlabRBM`` for pictures whose covariance depends on the hidden units.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rbm = dgm.ConvolutionalRBM(64, filters=4, size=5, pool=2)
        >>> rbm.maps, rbm.pooled(torch.zeros(3, 64)).shape, rbm.resized((16, 12)).sample(2, sweeps=5).shape
        ((4, 4, 4), torch.Size([3, 4, 2, 2]), torch.Size([2, 192]))
    """

    def __init__(
        self,
        visible: int,
        filters: int = 24,
        size: int | Sequence[int] = 5,
        shape: Sequence[int] | None = None,
        padding: str = "valid",
        pool: int | Sequence[int] | None = None,
        pooling: str = "probabilistic",
        bias: str = "shared",
        unit: str = "binary",
        share: float | None = None,
    ) -> None:
        super().__init__()
        filters = check_count("filters", filters, what="the number of filters")
        check_choice("pooling", pooling, _POOLINGS)
        check_choice("bias", bias, ("shared", "pixel"))
        check_choice("unit", unit, _UNITS)
        picture = picture_of(visible, shape)
        self._coupling = Convolution("visible", "hidden", picture, size, padding, pool=pool)
        self.visible, self.filters, self.size, self.shape = visible, filters, self._coupling.size, picture
        self.padding, self.pool, self.pooling, self.bias, self.unit = padding, self._coupling.pool, pooling, bias, unit
        self.maps = (filters, *self._coupling.positions)
        self._graph = Graph({"visible": _UNITS[unit](visible), "hidden": self._hidden_units()}, [self._coupling])
        self.weight = nn.Parameter(0.01 * torch.randn(self._graph.weight_shapes[0]))
        self.visible_bias = nn.Parameter(torch.zeros(picture[0] if bias == "shared" else visible))
        self.share = share
        self.hidden_bias = nn.Parameter(torch.full((filters,), self._first_bias()))
        if unit == "gaussian":
            self.log_precision = nn.Parameter(torch.zeros(()))

    def _hidden_units(self) -> Unit:
        if self.pool is None:
            return Binary(*self.maps)
        grid = [side // width for side, width in zip(self.maps[1:], self.pool, strict=True)]
        return _POOLINGS[self.pooling](self.filters, *grid, math.prod(self.pool))

    def _first_bias(self) -> float:
        """The bias of detectors that are on at a share of the positions where nothing else acts on them."""
        if self.share is None:
            return 0.0
        check_share("share", self.share, "the share of positions at which a detector is on")
        exclusive = self.pool is not None and self.pooling == "probabilistic"
        rest = 1 - self.share * (math.prod(self.pool or (1,)) if exclusive else 1)
        if rest <= 0:
            raise ValueError(
                f"share got {self.share!r} in regions of {math.prod(self.pool or (1,))} detectors of which at most one is on; "
                f"expected less than {1 / math.prod(self.pool or (1,)):.3g}"
            )
        return math.log(self.share / rest)

    def forward(self) -> BoltzmannDistribution:
        """The distribution of flat pictures."""
        pixels = self.visible_bias.repeat_interleave(self.visible // len(self.visible_bias))
        unit = self._graph.layers["hidden"]
        detectors = self.hidden_bias.view(-1, *(1 for _ in unit.shape[1:])).expand(unit.shape)
        hidden = (detectors, *(torch.zeros_like(detectors) for _ in unit.statistics[1:]))
        if self.unit == "binary":
            return BoltzmannDistribution(self._graph, {"visible": (pixels,), "hidden": hidden}, (self.weight,))
        beta, origin = self.log_precision.exp(), pixels.detach()
        visible = (beta * (pixels - origin), (-0.5 * beta).expand(self.visible))
        return BoltzmannDistribution(
            self._graph.at(visible=origin), {"visible": visible, "hidden": hidden}, (beta * self.weight,)
        )

    def detectors(self, x: Tensor) -> Tensor:
        """P(h = 1 | v): ``rows x filters x height x width`` of the positions."""
        means = self._means(x)[0]
        if self.pool is None:
            return means.unflatten(-1, self.maps)
        grid = [side // width for side, width in zip(self.maps[1:], self.pool, strict=True)]
        return means.unflatten(-1, (self.filters, *grid, *self.pool)).transpose(-3, -2).flatten(-4, -3).flatten(-2)

    def pooled(self, x: Tensor) -> Tensor:
        """P(pooling unit = 1 | v): ``rows x filters x height x width`` of the regions.

        Raises:
            ValueError: a machine without regions.
        """
        if self.pool is None:
            raise ValueError("this machine has no pooling regions; make it with pool=2, say, or use detectors(x)")
        unit = self._graph.layers["hidden"]
        return AtMostOne.pooled_mean(self._means(x)[-1].unflatten(-1, unit.shape))

    def _means(self, x: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return mean_field(self().machine, {"visible": x}, 1).statistics["hidden"]

    def resized(self, shape: Sequence[int]) -> Self:
        """The same filters for pictures of another size: a machine with a copy of the parameters.

        Its likelihoods are those of other pictures: figures of two sizes cannot be compared.

        Args:
            shape: height and width, or channels, height and width.

        Raises:
            ValueError: a bias per pixel; other channels; a picture that does not fit the filters or their regions.
        """
        if self.bias != "shared":
            raise ValueError("this machine has a bias for every pixel; only one with bias='shared' can be resized")
        picture = resized_picture(shape, self.shape[0])
        other = type(self)(**{**self.options(), "visible": math.prod(picture), "shape": list(picture)}).to(self.weight)
        other.load_state_dict(self.state_dict())
        other.fresh = self.fresh
        return other

    def initialise(self, x: Tensor) -> None:
        """Set the visible biases (and the precision of real pixels) to the data's, unless the biases were set already.

        Filters of real pixels are scaled to the data, and hidden biases lowered by what the pixels' means would add to them.
        """
        if bool(self.visible_bias.detach().any()):
            return
        with torch.no_grad():
            by_bias = x.view(len(x), len(self.visible_bias), -1).transpose(1, 2).flatten(0, 1)
            mean, variance = location_and_variance(by_bias)
            if self.unit == "gaussian":
                self.log_precision.copy_(-variance.mean().log())
                self.weight.mul_(variance.mean().sqrt())
                by_channel = mean.view(self.shape[0], -1).mean(1)
                self.hidden_bias.sub_(self.log_precision.exp() * (self.weight.flatten(2).sum(-1) @ by_channel))
            self.visible_bias.copy_(torch.logit(mean, eps=1e-3) if self.unit == "binary" else mean)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """As other machines; of real pixels, whose conditional densities are long sums, validation rows' reconstruction."""
        if self.unit == "binary":
            return super().progress(train, valid)
        return self._reconstruction_progress(*self.first_rows(train, valid))

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "filters": self.filters, "size": list(self.size), "shape": list(self.shape),
                "padding": self.padding, "pool": None if self.pool is None else list(self.pool), "pooling": self.pooling,
                "bias": self.bias, "unit": self.unit, "share": self.share}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=9, filters=2, size=2, pool=2, shape=(3, 3)), lambda: bits(10, 9), scale=0.7)
