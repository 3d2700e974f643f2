"""Convolutional deep Boltzmann machine, section 20.6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_count
from ...columns import location_and_variance
from ...energy import AtMostOne, Binary, BoltzmannDistribution, Convolution, Gaussian, Graph, Interaction, Unit
from ..shared.examples import bits, seeded
from ..shared.pictures import filter_stack, picture_of
from ..shared.variational_machine import VariationalMachine


class ConvolutionalDBM(VariationalMachine):
    r"""Deep Boltzmann machine of filters with probabilistic max pooling (Lee, Grosse, Ranganath and Ng 2009).

    $-E = a^\top v + \sum_k b_k^\top d_k + (v, W_1 d_1) + \sum_{k>1} (p_{k-1}, W_k d_k)$, where $d_k$ are the detectors of layer
    k, of which at most one in every region is on, $p_k$ the pooling units of these regions, and $(\cdot, W \cdot)$ convolutions
    (20.6; 20.24-25). Odd and even layers are two blocks of Gibbs sampling. The guide is mean field over the regions
    (20.29-34), and the ELBO is (20.35). In-painting clamps known pixels (``dgm.condition``, ``impute``). All in nats.

    Rows are flat pictures in the order channels, height, width.

    Args:
        visible: the number of pixels, over all channels.
        filters: the filters of every hidden layer, the lowest first.
        sizes: height and width of a filter, or one number for both, per layer.
        pools: height and width of a region, or one number for both, per layer; 1 for units without regions.
        shape: height and width of a picture, or channels, height and width; by default a square of one channel.
        unit: the visible units, ``"binary"`` or ``"gaussian"`` with one learned precision.
        rounds: rounds of mean field in the guide.

    Attributes:
        weights: $W_k$, each ``filters x channels x height x width`` of a filter.
        visible_bias: $a$, ``channels``; hidden_biases: $b_k$, ``filters`` of every layer.
        log_precision: $\log\beta$, a scalar, for real pixels.
        hidden: the shapes of the hidden layers: filters, height and width of the grid of regions, detectors of one.

    Raises:
        ValueError: no hidden layer, numbers of sizes or regions that differ from that of layers, regions or filters that do not
            fit, an unknown unit.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> dbm = dgm.ConvolutionalDBM(144, filters=(4, 6), sizes=(3, 2), pools=(2, 2))
        >>> [tuple(p.shape) for p in dbm.pooled(torch.zeros(3, 144))]
        [(3, 4, 5, 5), (3, 6, 2, 2)]
    """

    def __init__(
        self,
        visible: int,
        filters: Sequence[int] = (24, 40),
        sizes: Sequence[int | Sequence[int]] = (5, 5),
        pools: Sequence[int | Sequence[int]] = (2, 1),
        shape: Sequence[int] | None = None,
        unit: Literal["binary", "gaussian"] = "binary",
        rounds: int = 10,
    ) -> None:
        super().__init__()
        self.filters, self.sizes, self.pools = filter_stack(filters, sizes, pools)
        check_choice("unit", unit, ("binary", "gaussian"))
        picture = picture_of(visible, shape)
        self.visible, self.shape, self.unit, self.classes = visible, picture, unit, 0
        self.rounds = check_count("rounds", rounds, what="the rounds of mean field")
        self.names = tuple(f"hidden{number + 1}" for number in range(len(self.filters)))
        layers: dict[str, Unit] = {"visible": Binary(visible) if unit == "binary" else Gaussian(visible)}
        couplings: list[Interaction] = []
        for name, count, size, pool in zip(self.names, self.filters, self.sizes, self.pools, strict=True):
            coupling = Convolution(next(reversed(layers)), name, picture, size, pool=pool)
            grid = [side // width for side, width in zip(coupling.positions, pool, strict=True)]
            layers[name] = AtMostOne(count, *grid, math.prod(pool))
            couplings.append(coupling)
            picture = (count, grid[0], grid[1])
        self._graph = Graph(layers, couplings)
        self.hidden = tuple(tuple(layers[name].shape) for name in self.names)
        self.weights = nn.ParameterList(0.01 * torch.randn(shape) for shape in self._graph.weight_shapes)
        self.visible_bias = nn.Parameter(torch.zeros(self.shape[0]))
        self.hidden_biases = nn.ParameterList(torch.zeros(count) for count in self.filters)
        if unit == "gaussian":
            self.log_precision = nn.Parameter(torch.zeros(()))

    def forward(self) -> BoltzmannDistribution:
        """The distribution of flat pictures."""
        pixels = self.visible_bias.repeat_interleave(self.visible // self.shape[0])
        visible: tuple[Tensor, ...] = (pixels,)
        graph, first = self._graph, cast(Tensor, self.weights[0])
        if self.unit == "gaussian":
            beta, origin = self.log_precision.exp(), pixels.detach()
            visible, first = (beta * (pixels - origin), (-0.5 * beta).expand(self.visible)), beta * first
            graph = graph.at(visible=origin)
        biases = {"visible": visible}
        for name, bias, shape in zip(self.names, self.hidden_biases, self.hidden, strict=True):
            biases[name] = (bias.view(-1, 1, 1, 1).expand(shape),)
        return BoltzmannDistribution(graph, biases, (first, *self.weights[1:]))

    def pooled(self, x: Tensor, rounds: int = 50) -> tuple[Tensor, ...]:
        """P(pooling unit = 1 | v) of every layer by mean field, each ``rows x filters x height x width`` of the regions."""
        statistics = self.mean_field(x, rounds).statistics
        return tuple(
            AtMostOne.pooled_mean(statistics[name][0].unflatten(-1, shape))
            for name, shape in zip(self.names, self.hidden, strict=True)
        )

    def initialise(self, x: Tensor) -> None:
        """Set the visible biases (and the precision of real pixels) to the data's, unless the biases were set already.

        First filters of real pixels are scaled to the data, and hidden biases lowered by what the pixels' means would add.
        """
        if bool(self.visible_bias.detach().any()):
            return
        with torch.no_grad():
            by_channel = x.view(len(x), self.shape[0], -1).transpose(1, 2).flatten(0, 1)
            mean, variance = location_and_variance(by_channel)
            if self.unit == "gaussian":
                self.log_precision.copy_(-variance.mean().log())
                self.weights[0].mul_(variance.mean().sqrt())
                self.hidden_biases[0].sub_(self.log_precision.exp() * (self.weights[0].flatten(2).sum(-1) @ mean))
            self.visible_bias.copy_(torch.logit(mean, eps=1e-3) if self.unit == "binary" else mean)

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        sizes, pools = ([list(pair) for pair in pairs] for pairs in (self.sizes, self.pools))
        return {"visible": self.visible, "filters": list(self.filters), "sizes": sizes, "pools": pools, "shape": list(self.shape),
                "unit": self.unit, "rounds": self.rounds}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(9, (2, 2), (2, 1), (2, 1), (3, 3)), lambda: bits(10, 9), scale=0.7)
