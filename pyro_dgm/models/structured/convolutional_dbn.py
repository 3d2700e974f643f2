"""Convolutional deep belief network, section 20.6."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...checks import check_choice
from ...distributions.unit_layer import UnitLayer
from ...energy import AtMostOne, BoltzmannDistribution, Convolution, Graph
from ...nets.pooled import PooledClassifier, PooledConvolution
from ..shared.deep_belief import DeepBeliefModel
from ..shared.examples import bits, seeded
from ..shared.layerwise import Stage
from ..shared.pictures import filter_stack, picture_of
from ..shared.rows import PROGRESS_ROWS, check_binary, check_rows
from .convolutional_rbm import ConvolutionalRBM


class ConvolutionalDBN(DeepBeliefModel):
    r"""Convolutional deep belief network with probabilistic max pooling (Lee, Grosse, Ranganath and Ng 2009).

    Every hidden layer has filters, whose detectors lie in regions with at most one on (``dgm.AtMostOne``); a layer's picture
    is the pooling units of the layer below (20.6). The two top layers are a Boltzmann machine; below it detectors are drawn
    downwards, given the layer above, with the fields $b_k + W_{k+1}^\top d_{k+1}$ of their pooling units, and pixels with
    $a + W_1^\top d_1$ (20.17-20). ``model(x)`` has the sites ``"x"`` and ``"hidden1"`` to ``"hidden{L-1}"``, layers of
    detectors; the guide draws them upwards. All in nats.

    ``dgm.pretrain`` trains greedily: layer k is a ``dgm.ConvolutionalRBM`` of the pooling units below it. A machine trained on
    pooled bits with a visible bias $\beta_f$ is the top machine with the detectors' bias $\beta_f - \log n$, for regions of n
    detectors. ``fit`` goes on by the up-down algorithm.

    Rows are flat pictures in the order channels, height, width.

    Args:
        visible: the number of pixels, over all channels.
        filters: the filters of every hidden layer, the lowest first; two layers or more.
        sizes: height and width of a filter, or one number for both, per layer.
        pools: height and width of a region, or one number for both, per layer.
        shape: height and width of a picture, or channels, height and width; by default a square of one channel.
        unit: the visible units, ``"binary"`` or ``"gaussian"`` with one learned precision.
        padding: of every layer: ``"valid"`` positions inside its picture, or the ``"full"`` ones that touch it. With the full
            ones as many positions see a pixel at the edge as one in the middle; without, filters learn small pictures' edges.

    Attributes:
        weights: W, one per layer, ``filters x channels x height x width`` of a filter.
        biases: the generative biases: of channels, of the filters of every layer below the top machine's upper one, and of that.
        recognition_weights, recognition_biases: those of the guide, for all layers below the top machine's upper one.
        hidden: the shapes of all hidden layers: filters, height and width of the grid of regions, detectors of one.

    Raises:
        ValueError: fewer than two layers, numbers of sizes or regions that differ from that of layers, regions or filters that
            do not fit.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> dbn = dgm.ConvolutionalDBN(144, filters=(4, 6), sizes=(3, 2), pools=(2, 2))
        >>> dbn.hidden, dbn.sample(2, sweeps=3).shape
        (((4, 5, 5, 4), (6, 2, 2, 4)), torch.Size([2, 144]))
    """

    guide_needs_rows = True

    def __init__(
        self,
        visible: int,
        filters: Sequence[int] = (24, 40),
        sizes: Sequence[int | Sequence[int]] = (5, 5),
        pools: Sequence[int | Sequence[int]] = (2, 1),
        shape: Sequence[int] | None = None,
        unit: Literal["binary", "gaussian"] = "binary",
        padding: Literal["valid", "full"] = "valid",
    ) -> None:
        super().__init__()
        self.filters, self.sizes, self.pools = filter_stack(filters, sizes, pools, fewest=2)
        check_choice("unit", unit, ("binary", "gaussian"))
        picture = picture_of(visible, shape)
        self.visible, self.shape, self.unit, self.padding = visible, picture, unit, padding
        self._stages: list[dict[str, Any]] = []
        self._graphs: list[Graph] = []
        for number, (count, size, pool) in enumerate(zip(self.filters, self.sizes, self.pools, strict=True)):
            stage: dict[str, Any] = {
                "visible": math.prod(picture),
                "filters": count,
                "size": size,
                "shape": list(picture),
                "pool": pool,
                "padding": padding,
            }
            machine = ConvolutionalRBM(**stage, unit=unit if number == 0 else "binary")
            self._stages.append(stage)
            below = machine._graph.layers["visible"] if number == 0 else self._graphs[-1].layers["hidden"]
            coupling = Convolution("visible", "hidden", picture, size, padding, pool=pool)
            self._graphs.append(Graph({"visible": below, "hidden": machine._graph.layers["hidden"]}, [coupling]))
            picture = (count, *machine._graph.layers["hidden"].shape[1:3])
        self.hidden = tuple(tuple(graph.layers["hidden"].shape) for graph in self._graphs)
        shapes = [graph.weight_shapes[0] for graph in self._graphs]
        self.weights = nn.ParameterList(0.01 * torch.randn(shape) for shape in shapes)
        self.biases = nn.ParameterList(torch.zeros(n) for n in (self.shape[0], *self.filters))
        self.recognition_weights = nn.ParameterList(0.01 * torch.randn(shape) for shape in shapes[:-1])
        self.recognition_biases = nn.ParameterList(torch.zeros(n) for n in self.filters[:-1])
        if unit == "gaussian":
            self.log_precision = nn.Parameter(torch.zeros(()))

    def top(self) -> BoltzmannDistribution:
        """The top machine, a distribution of the detectors of layer L - 1."""
        graph = self._graphs[-1]
        biases = {
            "visible": (_spread(self.biases[-2], graph.layers["visible"].shape),),
            "hidden": (_spread(self.biases[-1], graph.layers["hidden"].shape),),
        }
        return BoltzmannDistribution(graph, biases, (self.weights[-1],))

    def _down(self, layer: int, above: Tensor) -> Tensor:
        """Fields of the layer below ``layer`` (from 1), given its detectors, with the generative bias: shaped as that layer."""
        graph = self._graphs[layer - 1]
        shape = graph.layers["visible"].shape
        field = graph.interactions[0].field(0, {"hidden": (above.flatten(-4),)}, self.weights[layer - 1])
        return field.unflatten(-1, shape) + _spread(self.biases[layer - 1], shape)

    def _up(self, layer: int, below: Tensor) -> UnitLayer:
        """The guide's law of a layer's detectors (from 1) given the layer below."""
        graph = self._graphs[layer - 1]
        unit = graph.layers["hidden"]
        flat = below if layer == 1 else below.flatten(-4)
        field = graph.interactions[0].field(1, {"visible": (flat,)}, self.recognition_weights[layer - 1])
        return UnitLayer(
            unit, (field.unflatten(-1, unit.shape) + _spread(self.recognition_biases[layer - 1], unit.shape),)
        )

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        top = self.top()
        with self.data_plate(x, size):
            d = pyro.sample(f"hidden{self.depth - 1}", top)
            for layer in range(self.depth - 1, 1, -1):
                unit = self._graphs[layer - 2].layers["hidden"]
                d = pyro.sample(f"hidden{layer - 1}", UnitLayer(unit, (self._down(layer, d),)))
            return pyro.sample("x", self.observe(d), obs=x)

    def observe(self, detectors: Tensor) -> Any:
        """$p(v | d_1)$: ``batch_shape`` of the detectors of the lowest layer, ``event_shape`` (visible,)."""
        mean = self._down(1, detectors)
        if self.unit == "binary":
            return dist.Bernoulli(logits=mean).to_event(1)
        return dist.Normal(mean, (-0.5 * self.log_precision).exp()).to_event(1)

    def infer(self, x: Tensor, size: int | None = None) -> None:
        below = x
        with self.data_plate(x, size):
            for layer in range(1, self.depth):
                below = pyro.sample(f"hidden{layer}", self._up(layer, below))

    def sample(self, n: int, sweeps: int = 1000) -> Tensor:
        """Draw ``n`` pictures from chains of the top machine, downwards."""
        with torch.no_grad():
            d = self.top().sample((n,), sweeps)
            for layer in range(self.depth - 1, 1, -1):
                d = UnitLayer(self._graphs[layer - 2].layers["hidden"], (self._down(layer, d),)).sample()
            return self.observe(d).sample()

    def posterior(self, x: Tensor, layer: int | None = None) -> Tensor:
        """P(pooling unit = 1) of a layer on an upward pass with means in place of draws, as features.

        Args:
            x: rows.
            layer: the number of the layer, from 1; by default the highest.

        Returns:
            ``rows x filters x height x width`` of the regions; with layer 0 the rows.

        Raises:
            ValueError: there is no such layer.
        """
        layer = self.layer_number(layer)
        with torch.no_grad():
            below = x
            for number in range(1, layer + 1):
                if number < self.depth:
                    below = self._up(number, below).mean
                    continue
                graph = self._graphs[-1]
                unit = graph.layers["hidden"]
                field = graph.interactions[0].field(1, {"visible": (below.flatten(-4),)}, self.weights[-1])
                below = unit.mean(field.unflatten(-1, unit.shape) + _spread(self.biases[-1], unit.shape))[0]
        return below if layer == 0 else AtMostOne.pooled_mean(below)

    def hidden_features(self, x: Tensor) -> Tensor:
        """The pooling units' probabilities of all layers on an upward pass, the lowest layer first: ``rows x features``."""
        return torch.cat([self.posterior(x, layer).flatten(1) for layer in range(1, self.depth + 1)], 1)

    def to_mlp(self, classes: int, dropout: float = 0.0) -> PooledClassifier:
        """A convolutional classifier that starts from the upward pass, with fresh class scores of all layers' pooling units."""
        full, pairs = self.padding == "full", zip(self.upward(), self.pools, strict=True)
        layers = [PooledConvolution(W.detach(), b.detach(), pool, full) for (W, b), pool in pairs]
        features = sum(math.prod(shape[:-1]) for shape in self.hidden)
        return PooledClassifier(layers, self.shape, features, classes, dropout)

    def top_rows(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            below = rows
            for layer in range(1, self.depth):
                below = self._up(layer, below).sample()
        return below

    def stages(self) -> Iterator[Stage]:
        for k, stage in enumerate(self._stages):
            machine = ConvolutionalRBM(**stage, unit=self.unit if k == 0 else "binary").to(self.weights[0])
            yield machine, functools.partial(self._pooled_rows, layer=k)
            with torch.no_grad():
                self.weights[k].copy_(machine.weight)
                regions = math.prod(self.hidden[k - 1][3:]) if k else 1
                self.biases[k].copy_(machine.visible_bias - math.log(regions))
                self.biases[k + 1].copy_(machine.hidden_bias)
                if k < self.depth - 1:
                    gaussian = k == 0 and self.unit == "gaussian"
                    scale = machine.log_precision.exp() if gaussian else 1.0
                    self.recognition_weights[k].copy_(scale * machine.weight)
                    self.recognition_biases[k].copy_(machine.hidden_bias)
                    if gaussian:
                        self.log_precision.copy_(machine.log_precision)

    def _pooled_rows(self, x: Tensor, layer: int) -> Tensor:
        return x if layer == 0 else self.posterior(x, layer).flatten(1)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The reconstruction of validation rows from the first hidden layer, in nats per row."""
        with torch.no_grad():
            rows = valid[:PROGRESS_ROWS]
            return {"valid_reconstruction": float(self.observe(self._up(1, rows).sample()).log_prob(rows).mean())}

    def initialise(self, x: Tensor) -> None:
        """Start the pixels' biases at the channels' means, unless they were set already."""
        if not bool(self.biases[0].detach().any()):
            with torch.no_grad():
                mean = x.view(len(x), self.shape[0], -1).mean((0, 2))
                self.biases[0].copy_(torch.logit(mean, eps=1e-3) if self.unit == "binary" else mean)

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), "ConvolutionalDBN")
        if self.unit == "binary":
            check_binary(x, "ConvolutionalDBN with binary units", "choose unit='gaussian' (--set unit=gaussian)")

    def options(self) -> dict[str, Any]:
        sizes, pools = ([list(pair) for pair in pairs] for pairs in (self.sizes, self.pools))
        return {"visible": self.visible, "filters": list(self.filters), "sizes": sizes, "pools": pools, "shape": list(self.shape),
                "unit": self.unit, "padding": self.padding}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(16, (2, 2), (2, 1), (1, 1), (4, 4)), lambda: bits(10, 16), scale=0.7)


def _spread(bias: Tensor, shape: Sequence[int]) -> Tensor:
    """A bias per filter or channel at all units of a layer; a flat layer has its channels one after another."""
    if len(shape) == 1:
        return bias.repeat_interleave(shape[0] // len(bias))
    return bias.view(-1, *(1 for _ in shape[1:])).expand(*shape)
