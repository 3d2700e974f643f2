"""Gated restricted Boltzmann machine, section 20.8."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ...columns import location_and_variance
from ...energy import BoltzmannDistribution, Machine
from ...energy.conditional import conditional
from ..shared.examples import bits, seeded
from ..shared.given_columns import GivenColumnsModel
from ._gates import GatedMachine, natural


class GatedRBM(GatedMachine, GivenColumnsModel):
    r"""Machine of outputs whose couplings the inputs gate through factors (Memisevic and Hinton 2007, 2010).

    $-E(y, h; x) = \sum_f (x^\top W^x_f)(y^\top W^y_f)(h^\top W^h_f) + b^\top y + c^\top h$ (20.8): given x it is a restricted
    machine with the weights $W^y \mathrm{diag}(x^\top W^x) W^{h\top}$, which are never made. Hidden units learn how inputs become
    outputs (shifts, rotations). For real outputs with precisions $\beta$ the energy is that of ``dgm.GaussianRBM`` with these
    weights. All in nats, of the outputs given the inputs: the inputs have no law here.

    Rows hold inputs and outputs. The factors' matrices are one model with any scales that multiply to one, and with weights of
    zero nothing moves: standardise the data, and let weights start at some tenths.

    Args:
        visible: the number of columns of a row, inputs and outputs.
        inputs: the number of its first columns, which are given.
        hidden: the number of hidden units.
        factors: the number of factors, F.
        unit: the outputs, ``"binary"`` or ``"gaussian"`` with learned precisions.
        spread: the standard deviation of the first weights.

    Attributes:
        input_weight, output_weight, hidden_weight: $W^x$, ``inputs x F``, $W^y$, ``outputs x F`` and $W^h$, ``hidden x F``.
        visible_bias, hidden_bias: $b$ and $c$.
        log_precision: $\log\beta$, ``outputs``, for real outputs.

    Raises:
        ValueError: sizes below one, no outputs, an unknown unit.

    See also:
        ``dgm.JointGatedRBM``, which gives the inputs a law too.

    Memisevic and Hinton (2007), "Unsupervised learning of image transformations"; (2010), "Learning to represent spatial
    transformations with factored higher-order Boltzmann machines".

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> gated = dgm.GatedRBM(visible=8, inputs=4, hidden=3, factors=5)
        >>> gated.transformation(torch.zeros(2, 8)).shape, gated(torch.zeros(2, 4)).sample().shape
        (torch.Size([2, 3]), torch.Size([2, 4]))
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
        self._set_factors(self._set_columns(visible, inputs), hidden, factors, unit, spread, input_unit="gaussian")
        if unit == "gaussian":
            self.log_precision = nn.Parameter(torch.zeros(visible - inputs))

    def forward(self, given: Tensor | None = None) -> BoltzmannDistribution:
        given = self.no_inputs(1).squeeze(0) if given is None else given
        graph = self._graph
        output_weight: Tensor = self.output_weight
        visible: tuple[Tensor, ...] = (self.visible_bias,)
        if self.unit == "gaussian":
            visible, beta, origin = natural(self.visible_bias, self.log_precision)
            graph, output_weight = graph.at(visible=origin), beta * self.output_weight
        nothing = given.new_zeros(self.inputs), given.new_full((self.inputs,), -0.5)
        machine = Machine(
            graph,
            {"visible": visible, "hidden": (self.hidden_bias,), "input": nothing},
            (torch.cat([output_weight, self.hidden_weight, self.input_weight]),),
        )
        left, _ = conditional(machine, {"input": given.to(self.visible_bias)})
        return BoltzmannDistribution(left.graph, left.biases, left.weights)

    def outputs_given(self, given: Tensor) -> BoltzmannDistribution:
        return self(given)

    def initialise(self, x: Tensor) -> None:
        """Set b (and the precisions of real outputs) to the outputs' means and variances, unless b was set already.

        Weights of real outputs are scaled to their columns.
        """
        if bool(self.visible_bias.detach().any()):
            return
        if self.unit == "binary":
            return super().initialise(x)
        outputs = self.split(x)[1]
        with torch.no_grad():
            location, variance = location_and_variance(outputs)
            self.visible_bias.copy_(location)
            self.log_precision.copy_(-variance.log())
            self.output_weight.mul_(variance.sqrt().unsqueeze(-1))

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "inputs": self.inputs, "hidden": self.hidden, "factors": self.factors,
                "unit": self.unit, "spread": self.spread}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=6, inputs=3, hidden=3, factors=4), lambda: bits(10, 6), scale=0.7)
