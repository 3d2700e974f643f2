"""Conditional restricted Boltzmann machine, section 20.7."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_count
from ...columns import constant, linear_prediction, location_and_variance
from ...energy import Binary, BoltzmannDistribution, Dense, Gaussian, Graph
from ..shared.arguments import rows_for
from ..shared.examples import bits, seeded
from ..shared.given_columns import GivenColumnsModel
from ..shared.rows import check_rows

_LISTED = 12
"""The most hidden units whose states are listed for a mean."""


class ConditionalRBM(GivenColumnsModel):
    r"""Restricted Boltzmann machine whose biases depend linearly on given columns (Taylor, Hinton and Roweis 2007).

    With inputs x and outputs y, $b(x) = b + x^\top A$, $c(x) = c + x^\top B$ and
    $-E(y, h; x) = b(x)^\top y + c(x)^\top h + y^\top W h$ for bits (20.7). For real outputs with precisions $\beta$,
    $y \mid h, x \sim \mathcal N(b(x) + W h, \mathrm{diag}(\beta)^{-1})$ and
    $P(h_j = 1 \mid y, x) = \sigma(c_j(x) + (y \odot \beta)^\top W_{:,j})$, as in ``dgm.GaussianRBM``. All in nats, of the outputs
    given the inputs.

    With ``residual`` the hidden units see what b(x) leaves of real outputs: $P(h_j = 1 \mid y, x) =
    \sigma(c_j(x) + ((y - b(x)) \odot \beta)^\top W_{:,j})$. These are the same machines in coordinates in which W learns the
    residuals of the linear prediction, and training starts at linear regression.

    Rows hold inputs and outputs. For a model of sequences of order m the inputs are the m frames before a frame:
    ``dgm.data.windows`` makes such rows, and ``extend`` draws further frames. Any other vector serves as well: half of a
    picture, say, to predict the other half.

    Args:
        visible: the number of columns of a row, inputs and outputs.
        inputs: the number of its first columns, which are given.
        hidden: the number of hidden units.
        unit: the outputs, ``"binary"`` or ``"gaussian"`` with learned precisions.
        residual: of real outputs, let hidden units see $y - b(x)$ in place of y.

    Attributes:
        weight: $W$, ``outputs x hidden``.
        visible_weight: $A$, ``inputs x outputs``, and hidden_weight: $B$, ``inputs x hidden``.
        visible_bias, hidden_bias: $b$ and $c$.
        log_precision: $\log\beta$, ``outputs``, for real outputs.

    Raises:
        ValueError: sizes below one, no outputs, an unknown unit, residuals of bits.

    Taylor, Hinton and Roweis (2007), "Modeling human motion using binary latent variables"; Mnih, Larochelle and Hinton (2011),
    "Conditional restricted Boltzmann machines for structured output prediction".

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> crbm = dgm.ConditionalRBM(visible=6, inputs=4, hidden=3)
        >>> crbm(torch.zeros(5, 4)).sample().shape, crbm.extend(torch.zeros(1, 2, 2), 3).shape
        (torch.Size([5, 2]), torch.Size([1, 3, 2]))
    """

    def __init__(
        self, visible: int, inputs: int, hidden: int = 150, unit: str = "binary", residual: bool = False
    ) -> None:
        super().__init__()
        outputs = self._set_columns(visible, inputs)
        hidden = check_count("hidden", hidden, what="the number of hidden units")
        check_choice("unit", unit, ("binary", "gaussian"))
        if residual and unit == "binary":
            raise ValueError(
                "residual got True for bits, which have no residuals; leave it out, or choose unit='gaussian'"
            )
        self.hidden, self.unit, self.residual = hidden, unit, bool(residual)
        units = Binary(outputs) if unit == "binary" else Gaussian(outputs)
        self._graph = Graph({"visible": units, "hidden": Binary(hidden)}, [Dense("visible", "hidden")])
        self.weight = nn.Parameter(0.01 * torch.randn(outputs, hidden))
        self.visible_weight = nn.Parameter(0.01 * torch.randn(inputs, outputs))
        self.hidden_weight = nn.Parameter(0.01 * torch.randn(inputs, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(outputs))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        if unit == "gaussian":
            self.log_precision = nn.Parameter(torch.zeros(outputs))

    def forward(self, given: Tensor | None = None) -> BoltzmannDistribution:
        given = self.no_inputs(1).squeeze(0) if given is None else given
        visible = self.visible_bias + given @ self.visible_weight
        hidden = self.hidden_bias + given @ self.hidden_weight
        if self.unit == "binary":
            return BoltzmannDistribution(self._graph, {"visible": (visible,), "hidden": (hidden,)}, (self.weight,))
        beta, origin = self.log_precision.exp(), visible.detach()
        if self.residual:
            hidden = hidden - (beta * visible) @ self.weight
        natural = (beta * (visible - origin), -0.5 * beta)
        weight = beta.unsqueeze(-1) * self.weight
        return BoltzmannDistribution(
            self._graph.at(visible=origin), {"visible": natural, "hidden": (hidden,)}, (weight,)
        )

    @torch.no_grad()
    def mean(self, given: Tensor, sweeps: int = 200) -> Tensor:
        r"""$E[y \mid x]$: exactly with up to twelve hidden units, else over the later half of one chain per row.

        Args:
            given: inputs, ``rows x inputs``.
            sweeps: the length of the chain.

        Raises:
            ValueError: no sweeps; inputs of another width, or NaN.
        """
        sweeps = check_count("sweeps", sweeps, what="the sweeps of a chain")
        machine, block = self(given).machine, self._graph.block("visible")
        unit = machine.graph.layers["visible"]
        if self.hidden <= _LISTED:
            bits = torch.arange(self.hidden, device=given.device)
            numbers = torch.arange(2**self.hidden, device=given.device)
            states = {"hidden": ((numbers.view(-1, 1, 1) >> bits) & 1).to(self.weight)}
            share = torch.softmax(machine.collapsed((block,), states), 0).unsqueeze(-1)
            return (share * unit.mean(*machine.colour_fields((block,), states)[0])[0]).sum(0)
        state, total = machine.neutral_state((len(given),)), torch.zeros((), device=given.device)
        for sweep in range(sweeps):
            state = machine.sweep(state)
            if sweep >= sweeps // 2:
                total = total + unit.mean(*machine.colour_fields((block,), state)[0])[0]
        return total / (sweeps - sweeps // 2)

    @torch.no_grad()
    def extend(self, frames: Tensor, length: int, sweeps: int = 30) -> Tensor:
        """Draw frames that follow given ones, each by a chain that starts at the frame before it.

        Args:
            frames: the frames so far, ``sequences x T x outputs``, of which the last ``inputs / outputs`` are read.
            length: the number of frames to draw.
            sweeps: Gibbs sweeps per frame.

        Returns:
            The new frames, ``sequences x length x outputs``.

        Raises:
            ValueError: inputs that are no whole number of frames, frames of another shape, or too few of them, or NaN.
        """
        outputs = self.visible - self.inputs
        order, rest = divmod(self.inputs, outputs)
        if rest:
            raise ValueError(
                f"extend needs inputs of whole frames; this machine has {self.inputs} for frames of {outputs}"
            )
        frames = rows_for(self, frames, "frames")
        if frames.dim() != 3 or frames.shape[2] != outputs or frames.shape[1] < order:
            raise ValueError(
                f"frames got {tuple(frames.shape)}; expected sequences x T x {outputs}, with T at least {order}"
            )
        frames = frames[:, frames.shape[1] - order :]
        check_rows(frames, frames.shape[1:], "frames")
        length, sweeps = check_count("length", length), check_count("sweeps", sweeps)
        past = list(frames.unbind(1))
        for _ in range(length):
            machine = self(torch.cat(past[-order:], -1)).machine
            state = {**machine.neutral_state((len(frames),)), "visible": past[-1].to(self.weight)}
            for _ in range(sweeps):
                state = machine.sweep(state)
            past.append(state["visible"])
        return torch.stack(past[order:], 1)

    def initialise(self, x: Tensor) -> None:
        """Set b (and the precisions of real outputs) to the outputs' means and variances, unless b was set already.

        Weights of real outputs are scaled to the columns, and biases lowered by what the columns' means would add to them. With
        ``residual`` A, b and the precisions are those of linear regression, and B is zero.
        """
        if self.unit == "binary":
            return super().initialise(x)
        if bool(self.visible_bias.detach().any()):
            return
        inputs, outputs = self.split(x)
        with torch.no_grad():
            if self.residual:
                weight, intercept, variance = linear_prediction(inputs, outputs)
                self.visible_weight.copy_(weight)
                self.visible_bias.copy_(intercept)
                self.hidden_weight.zero_()
            else:
                (centre, spread), (location, variance) = location_and_variance(inputs), location_and_variance(outputs)
                step = torch.where(constant(inputs), 1.0, spread.rsqrt()).unsqueeze(-1)
                self.visible_weight.mul_(step * variance.sqrt())
                self.hidden_weight.mul_(step)
                self.visible_bias.copy_(location - centre @ self.visible_weight)
                # The weights below are scaled by the standard deviations: of W's product with location / variance, one is left.
                self.hidden_bias.sub_((location * variance.rsqrt()) @ self.weight + centre @ self.hidden_weight)
            self.log_precision.copy_(-variance.log())
            self.weight.mul_(variance.sqrt().unsqueeze(-1))

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "inputs": self.inputs, "hidden": self.hidden, "unit": self.unit,
                "residual": self.residual}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=6, inputs=3, hidden=3), lambda: bits(10, 6), scale=0.7)
