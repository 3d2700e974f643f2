"""What gated machines share: three layers coupled through factors, and what hidden units make of pairs."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_count, check_positive
from ...energy import Binary, BoltzmannDistribution, Factored, Gaussian, Graph, Unit
from ...energy.mean_field import mean_field
from ..shared.given_columns import PairColumns

UNITS: dict[str, type[Unit]] = {"binary": Binary, "gaussian": Gaussian}
"""The units that outputs can have."""


class GatedMachine(PairColumns):
    """A machine whose layers ``visible`` (the outputs), ``hidden`` and ``input`` are coupled through factors.

    Rows hold inputs and outputs.
    """

    def _set_factors(self, outputs: int, hidden: int, factors: int, unit: str, spread: float, input_unit: str) -> None:
        """Check the sizes, and make the graph, the factors' matrices and the biases of outputs and hidden units."""
        hidden = check_count("hidden", hidden, what="the number of hidden units")
        factors = check_count("factors", factors, what="the number of factors")
        check_choice("unit", unit, UNITS)
        check_positive("spread", spread, "the standard deviation of the first weights")
        self.hidden, self.factors, self.unit, self.spread = hidden, factors, unit, spread
        layers = {"visible": UNITS[unit](outputs), "hidden": Binary(hidden), "input": UNITS[input_unit](self.inputs)}
        self._graph = Graph(layers, [Factored(["visible", "hidden", "input"], factors)])
        self.input_weight = nn.Parameter(spread * torch.randn(self.inputs, factors))
        self.output_weight = nn.Parameter(spread * torch.randn(outputs, factors))
        self.hidden_weight = nn.Parameter(spread * torch.randn(hidden, factors))
        self.visible_bias = nn.Parameter(torch.zeros(outputs))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))

    @abstractmethod
    def outputs_given(self, given: Tensor) -> BoltzmannDistribution:
        """p(y | x), with a log Z of its own for every x.

        Args:
            given: inputs, ``batch_shape x inputs``.
        """

    @torch.no_grad()
    def transformation(self, x: Tensor) -> Tensor:
        """P(h = 1 | x, y), which tells how inputs became outputs: ``rows x hidden``.

        Args:
            x: rows of inputs and outputs.
        """
        machine, layers = self.machine_of(x)
        return mean_field(machine, layers, 1).statistics["hidden"][0]

    @torch.no_grad()
    def transform(self, h: Tensor, given: Tensor) -> Tensor:
        """E[y | x, h]: other inputs under a transformation, ``rows x outputs``.

        Args:
            h: states or means of the hidden units, ``rows x hidden``.
            given: inputs, ``rows x inputs``.
        """
        machine, block = self.outputs_given(given).machine, self._graph.block("visible")
        (eta,) = machine.colour_fields((block,), {"hidden": h})
        return machine.graph.layers["visible"].mean(*eta)[0]

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)


def natural(bias: Tensor, log_precision: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    r"""Of Gaussian units with mean b where nothing acts on them: natural parameters, $\beta$ beside a weight, and the origin."""
    beta, origin = log_precision.exp(), bias.detach()
    return (beta * (bias - origin), -0.5 * beta), beta.unsqueeze(-1), origin
