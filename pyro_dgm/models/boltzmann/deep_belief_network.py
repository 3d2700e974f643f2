"""Deep belief network, section 20.3."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...checks import check_choice, check_columns, check_counts
from ...energy import Binary, BoltzmannDistribution, Dense, Graph
from ...native import linear
from ...nets.bodies import classifier
from ..shared.deep_belief import DeepBeliefModel
from ..shared.examples import bits, seeded
from ..shared.layerwise import Stage
from ..shared.rows import PROGRESS_ROWS, check_binary, check_rows
from ._doubled import Repeated


class DBN(DeepBeliefModel):
    r"""Deep belief network (Hinton, Osindero and Teh 2006).

    The two top layers are a restricted Boltzmann machine; the others are drawn downwards from it (20.17-19):
    $P(h_L, h_{L-1}) \propto e^{b_{L-1}^\top h_{L-1} + c_L^\top h_L + h_{L-1}^\top W_L h_L}$,
    $P(h_k = 1 \mid h_{k+1}) = \sigma(b_k + W_{k+1} h_{k+1})$, and $P(v = 1 \mid h_1) = \sigma(b_0 + W_1 h_1)$, or
    $v \sim \mathcal N(b_0 + W_1 h_1, \beta^{-1})$ for real rows (20.20). With one hidden layer it is an RBM.

    ``model(x)`` has the sites ``"x"`` and ``"hidden1"`` to ``"hidden{L-1}"`` (the top layer is summed out); the guide draws them
    upwards, $Q(h_k = 1 \mid h_{k-1}) = \sigma(r_k + h_{k-1}^\top R_k)$. ``dgm.pretrain`` trains greedily (20.21), ``fit`` by
    the up-down algorithm, that is wake-sleep with persistent chains in the top machine.

    Args:
        visible: the number of visible units.
        hidden: units of every hidden layer, the lowest first.
        unit: the visible units, ``"binary"`` or ``"gaussian"`` (needs two layers or more).

    Attributes:
        weights: $W_1, \ldots, W_L$, each ``layer below x layer``.
        biases: $b_0, \ldots, b_{L-1}, c_L$, the generative biases, from the visible layer upwards.
        recognition_weights, recognition_biases: $R_k$ and $r_k$ below the top machine.

    Raises:
        ValueError: no hidden layer, an unknown unit.

    Example:
        >>> import pyro_dgm as dgm
        >>> dbn = dgm.DBN(visible=6, hidden=(4, 3))
        >>> dbn.sample(2).shape
        torch.Size([2, 6])
    """

    guide_needs_rows = True

    def __init__(self, visible: int, hidden: Sequence[int] = (500, 2000), unit: str = "binary") -> None:
        super().__init__()
        visible, hidden = check_columns(visible), check_counts("hidden", hidden, example="(500, 2000)")
        check_choice("unit", unit, ("binary", "gaussian"))
        if unit == "gaussian" and len(hidden) < 2:
            raise ValueError(
                f"unit got 'gaussian' with hidden={hidden}; expected two hidden layers, or use dgm.GaussianRBM"
            )
        self.visible, self.hidden, self.unit = visible, hidden, unit
        sizes = (visible, *hidden)
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.weights = nn.ParameterList(0.01 * torch.randn(m, n) for m, n in pairs)
        self.biases = nn.ParameterList(torch.zeros(n) for n in sizes)
        self.recognition_weights = nn.ParameterList(0.01 * torch.randn(m, n) for m, n in pairs[:-1])
        self.recognition_biases = nn.ParameterList(torch.zeros(n) for n in hidden[:-1])
        if unit == "gaussian":
            self.log_precision = nn.Parameter(torch.zeros(visible))
        below, above = pairs[-1]
        self._graph = Graph({"visible": Binary(below), "hidden": Binary(above)}, [Dense("visible", "hidden")])

    def top(self) -> BoltzmannDistribution:
        """The top machine, a distribution of the layer $h_{L-1}$."""
        below, above = self.biases[-2], self.biases[-1]
        return BoltzmannDistribution(self._graph, {"visible": (below,), "hidden": (above,)}, (self.weights[-1],))

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        depth = len(self.hidden)
        top = self.top()
        with self.data_plate(x, size):
            if depth == 1:
                return pyro.sample("x", top, obs=x)
            h = pyro.sample(f"hidden{depth - 1}", top)
            for k in range(depth - 1, 1, -1):
                p = dist.Bernoulli(logits=linear(h, self.weights[k - 1].t(), self.biases[k - 1]))
                h = pyro.sample(f"hidden{k - 1}", p.to_event(1))
            return pyro.sample("x", self.observe(h), obs=x)

    def observe(self, h: Tensor) -> Any:
        """$p(v | h_1)$: ``batch_shape`` of ``h``, ``event_shape`` (visible,)."""
        mean = linear(h, self.weights[0].t(), self.biases[0])
        if self.unit == "binary":
            return dist.Bernoulli(logits=mean).to_event(1)
        return dist.Normal(mean, (-0.5 * self.log_precision).exp()).to_event(1)

    def infer(self, x: Tensor, size: int | None = None) -> None:
        h = x
        with self.data_plate(x, size):
            for k, (R, r) in enumerate(zip(self.recognition_weights, self.recognition_biases, strict=True), 1):
                h = pyro.sample(f"hidden{k}", dist.Bernoulli(logits=linear(h, R, r)).to_event(1))

    def posterior(self, x: Tensor, layer: int | None = None) -> Tensor:
        """Probabilities of a hidden layer on an upward pass with means in place of samples (20.22-23), to be used as features.

        Args:
            x: rows.
            layer: the number of the layer, from 1; by default the highest. With 0 the rows come back.

        Raises:
            ValueError: there is no such layer.
        """
        layer = self.layer_number(layer)
        with torch.no_grad():
            h = x
            for R, r in self.upward()[:layer]:
                h = torch.sigmoid(linear(h, R, r))
        return h

    def to_mlp(self, classes: int, dropout: float = 0.0) -> nn.Sequential:
        """A classifier that starts from the upward pass (20.22-23), with a fresh softmax layer on top."""
        return classifier([(R.detach(), r.detach()) for R, r in self.upward()], classes, dropout)

    def stages(self) -> Iterator[Stage]:
        for k in range(len(self.hidden)):
            machine: Any = self._stage(k)
            yield machine, functools.partial(self.posterior, layer=k)
            with torch.no_grad():
                self.weights[k].copy_(machine.weight)
                self.biases[k].copy_(machine.visible_bias)
                self.biases[k + 1].copy_(machine.hidden_bias)
                if k < len(self.hidden) - 1:
                    gaussian = k == 0 and self.unit == "gaussian"
                    upward = machine.beta.unsqueeze(-1) * machine.weight if gaussian else machine.weight
                    self.recognition_weights[k].copy_(upward)
                    self.recognition_biases[k].copy_(machine.hidden_bias)
                    if gaussian:
                        self.log_precision.copy_(machine.log_precision)

    def _stage(self, k: int) -> Any:
        """The machine to train as layers k and k + 1.

        Where it has room, it starts as the machine below upside down, whose marginal of layer k is the prior of the bound so
        far: from there on every gain of this machine is a gain of the bound (20.3). (Not over real-valued rows, where the
        machine below has another marginal.)
        """
        sizes = (self.visible, *self.hidden)
        if k == 0 and self.unit == "gaussian":
            from ..real_valued.gaussian_rbm import GaussianRBM

            return GaussianRBM(self.visible, self.hidden[0])
        machine = Repeated(sizes[k], sizes[k + 1])
        if k > 0 and sizes[k + 1] >= sizes[k - 1] and not (k == 1 and self.unit == "gaussian"):
            m = sizes[k - 1]
            machine.fresh = False
            with torch.no_grad():
                machine.weight[:, :m] = self.weights[k - 1].t()
                machine.visible_bias.copy_(self.biases[k])
                machine.hidden_bias[:m] = self.biases[k - 1]
        return machine

    def top_rows(self, rows: Tensor) -> Tensor:
        return torch.bernoulli(self.posterior(rows, len(self.hidden) - 1))

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The reconstruction of validation rows from the first hidden layer, in nats per row; an RBM's free-energy gap."""
        with torch.no_grad():
            rows = valid[:PROGRESS_ROWS]
            if len(self.hidden) == 1:
                top, train = self.top(), train[:PROGRESS_ROWS]
                return {"free_energy_gap": float(top.free_energy(rows).mean() - top.free_energy(train).mean())}
            hidden = torch.bernoulli(self.posterior(rows, 1))
            return {"valid_reconstruction": float(self.observe(hidden).log_prob(rows).mean())}

    def initialise(self, x: Tensor) -> None:
        """Start the visible biases at the columns' means, unless they were set already."""
        if not bool(self.biases[0].detach().any()):
            with torch.no_grad():
                self.biases[0].copy_(torch.logit(x.mean(0), eps=1e-3) if self.unit == "binary" else x.mean(0))

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), "DBN")
        if self.unit == "binary":
            check_binary(x, "DBN with binary units", "choose unit='gaussian' (--set unit=gaussian)")

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": list(self.hidden), "unit": self.unit}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=5, hidden=(4, 3)), lambda: bits(10, 5), scale=0.7)
