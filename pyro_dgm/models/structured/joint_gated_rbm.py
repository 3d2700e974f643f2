"""Gated restricted Boltzmann machine of inputs and outputs, section 20.8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import pyro
import torch
from torch import Tensor, nn

from ...columns import location_and_variance
from ...distributions.layer_rows import LayerRows
from ...energy import BoltzmannDistribution
from ...energy.mean_field import mean_field
from ..shared.boltzmann import check_states, visible_given
from ..shared.examples import bits, seeded
from ..shared.rows import PROGRESS_ROWS, check_rows
from ._gates import GatedMachine, natural

_LAYERS = ("input", "visible")


class JointGatedRBM(GatedMachine):
    r"""Gated machine of inputs and outputs both: pairs are alike whichever comes first (Susskind et al. 2011).

    $-E(x, y, h) = \sum_f (x^\top W^x_f)(y^\top W^y_f)(h^\top W^h_f) + a^\top x + b^\top y + c^\top h$ (20.8). In contrast to
    ``dgm.GatedRBM`` the inputs have a law: $\log p(x, y)$ tells how well two rows match, and either side may be drawn given the
    other. For real columns with precisions $\beta$, $x \mid y, h \sim \mathcal N(a + W^x((y^\top B^y W^y) \odot (h^\top W^h)),
    \beta^{-1})$, and y likewise. All in nats.

    A machine of real columns has a normaliser only where for every h all singular values of
    $\beta_x^{1/2} W^x \mathrm{diag}(h^\top W^h) W^{y\top} \beta_y^{1/2}$ are below 1. Few hidden units are decided state by
    state, others by a bound, which allows them small weights only. Weights for which it cannot be shown are refused.

    Rows hold inputs and outputs. ``gated()`` is the distribution of the outputs; ``model(x)`` has the site ``"x"``, whole rows.

    Args:
        visible: the number of columns of a row, inputs and outputs.
        inputs: the number of its first columns, the inputs.
        hidden: the number of hidden units.
        factors: the number of factors, F.
        unit: all columns, ``"binary"`` or ``"gaussian"`` with learned precisions.
        spread: the standard deviation of the first weights.

    Attributes:
        input_weight, output_weight, hidden_weight: $W^x$, ``inputs x F``, $W^y$, ``outputs x F`` and $W^h$, ``hidden x F``.
        input_bias, visible_bias, hidden_bias: $a$, $b$ and $c$.
        input_log_precision, log_precision: $\log\beta$ of inputs and outputs, for real columns.

    Raises:
        ValueError: sizes below one, no outputs, an unknown unit; at the first use, weights without a normaliser.

    Susskind, Hinton, Memisevic and Pollefeys (2011), "Modeling the joint density of two images under a variety of
    transformations".

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> gated = dgm.JointGatedRBM(visible=8, inputs=4, hidden=3, factors=5)
        >>> gated.outputs_given(torch.zeros(2, 4)).sample().shape, gated.inputs_given(torch.zeros(2, 4)).sample().shape
        (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        visible: int,
        inputs: int,
        hidden: int = 100,
        factors: int = 200,
        unit: Literal["binary", "gaussian"] = "binary",
        spread: float = 0.1,
    ) -> None:
        super().__init__()
        outputs = self._set_columns(visible, inputs)
        self._set_factors(outputs, hidden, factors, unit, spread, input_unit=unit)
        self.input_bias = nn.Parameter(torch.zeros(inputs))
        if unit == "gaussian":
            self.input_log_precision = nn.Parameter(torch.zeros(inputs))
            self.log_precision = nn.Parameter(torch.zeros(outputs))

    def forward(self) -> BoltzmannDistribution:
        """The distribution of the outputs."""
        input_weight: Tensor = self.input_weight
        output_weight: Tensor = self.output_weight
        graph = self._graph
        inputs: tuple[Tensor, ...] = (self.input_bias,)
        visible: tuple[Tensor, ...] = (self.visible_bias,)
        if self.unit == "gaussian":
            inputs, beta_x, origin_x = natural(self.input_bias, self.input_log_precision)
            visible, beta_y, origin_y = natural(self.visible_bias, self.log_precision)
            graph = graph.at(input=origin_x, visible=origin_y)
            input_weight, output_weight = beta_x * input_weight, beta_y * output_weight
        biases = {"visible": visible, "hidden": (self.hidden_bias,), "input": inputs}
        weight = torch.cat([output_weight, self.hidden_weight, input_weight])
        return BoltzmannDistribution(graph, biases, (weight,))

    def outputs_given(self, given: Tensor) -> BoltzmannDistribution:
        return self().conditional({"input": given})

    def inputs_given(self, outputs: Tensor) -> BoltzmannDistribution:
        """p(x | y), with a log Z of its own for every y.

        Args:
            outputs: ``batch_shape x outputs``.
        """
        return self().conditional({"visible": outputs}, visible="input")

    def observed(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(_LAYERS, self.split(x), strict=True))

    def joined(self, state: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([state[layer] for layer in _LAYERS], -1)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        rows = LayerRows(self(), _LAYERS)
        with self.data_plate(x, size):
            return pyro.sample("x", rows, obs=x)

    def sample(self, n: int, sweeps: int = 1000) -> Tensor:
        """Draw ``n`` rows: exactly from a small machine, else as the last states of Gibbs chains."""
        return self.joined(self().sample_state((n,), sweeps))

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-probability of validation outputs given inputs and hidden means (no likelihood), and the free-energy gap."""
        with torch.no_grad():
            machine = self().machine
            rows = self.observed(valid[:PROGRESS_ROWS])
            means = {**machine.statistics(rows), **mean_field(machine, rows, 1).statistics}
            reconstruction = visible_given(machine, rows["visible"], means).mean()
            seen = (self._seen(part[:PROGRESS_ROWS]) for part in (train, valid))
            free_energies = [float(dist.free_energy(y).mean()) for dist, y in seen]
        return {"valid_reconstruction": float(reconstruction), "free_energy_gap": free_energies[1] - free_energies[0]}

    def check_data(self, x: Tensor) -> None:
        check_rows(x, torch.Size([self.visible]), type(self).__name__)
        for layer, part in self.observed(x).items():
            check_states(self._graph.layers[layer], part, type(self).__name__)

    def initialise(self, x: Tensor) -> None:
        """Set a and b to the columns' means, with the precisions and weights of real ones, unless b was set already."""
        if bool(self.visible_bias.detach().any()):
            return
        with torch.no_grad():
            columns = location_and_variance(x)
            (mean_x, mean_y), (variance_x, variance_y) = (self.split(part) for part in columns)
            if self.unit == "binary":
                mean_x, mean_y = (torch.logit(mean, eps=1e-3) for mean in (mean_x, mean_y))
            else:
                self.input_log_precision.copy_(-variance_x.log())
                self.log_precision.copy_(-variance_y.log())
                self.input_weight.mul_(variance_x.sqrt().unsqueeze(-1))
                self.output_weight.mul_(variance_y.sqrt().unsqueeze(-1))
            self.input_bias.copy_(mean_x)
            self.visible_bias.copy_(mean_y)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "inputs": self.inputs, "hidden": self.hidden, "factors": self.factors,
                "unit": self.unit, "spread": self.spread}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=6, inputs=3, hidden=3, factors=4), lambda: bits(10, 6), scale=0.7)
