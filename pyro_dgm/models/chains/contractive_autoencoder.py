"""Contractive autoencoder and its walk, section 20.11."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import advice
from ...checks import check_choice, check_columns, check_counts, check_positive
from ...columns import constant
from ...energy import Clamp, State
from ...nets.ladder import Ladder
from ...nets.modes import evaluating
from ...nets.scaling import ColumnScaling
from ...objectives.criteria.contractive import Contractive
from ...objectives.objective import Objective
from ..shared.examples import seeded
from ..shared.rows import PROGRESS_ROWS
from ..shared.walking import WalkingModel

_SLOPES = {"sigmoid": lambda h: h * (1 - h), "tanh": lambda h: 1 - h.square()}
"""The derivative of every activation, from its value."""


class ContractiveAutoencoder(WalkingModel):
    r"""The law that a walk along the tangents of a contractive encoder tends to (20.11; Rifai et al. 2012).

    $h = f(x)$, $J = \partial f / \partial x$ ($k \times D$), $\epsilon \sim N(0, \sigma^2 I_k)$, $x' = g(h + J J^\top \epsilon)$.

    The encoder is trained to rebuild rows and to contract, $\|J\|_F^2$ being penalised (``dgm.Contractive``): what is left of
    J are the directions along which data vary, and noise moves the code along these alone. With one hidden layer the penalty is
    $\sum_j s'(h_j)^2 \|W_{\cdot j}\|^2$; with several it is estimated without bias by $\|J^\top e\|^2$, $e \sim N(0, I)$.

    Draws are means g(.) of rows and lie on a surface of k dimensions. There is no likelihood, and clamping is approximate.

    Args:
        visible: the number of columns.
        hidden: units of the encoder's layers; the decoder has them in reverse.
        output: ``"sigmoid"`` for columns in [0, 1], ``"linear"`` for real ones, which a first ``fit`` standardises; those
            that are constant in the data keep their value.
        activation: ``"sigmoid"`` or ``"tanh"``, of all hidden layers.
        step: $\sigma$, the standard deviation of the walk's noise.
        tied: the decoder has the encoder's weights, transposed.

    Raises:
        ValueError: a number below one, a step that is not positive, an unknown output or activation.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.ContractiveAutoencoder(6, hidden=(8,)).sample(3, steps=10).shape
        torch.Size([3, 6])
    """

    mean: Tensor
    constant: Tensor

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int] = (1000,),
        output: str = "sigmoid",
        activation: str = "sigmoid",
        step: float = 1.0,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.visible = check_columns(visible)
        self.hidden = check_counts("hidden", hidden, "the units of at least one hidden layer", "(1000,)")
        check_choice("output", output, ("sigmoid", "linear"))
        check_choice("activation", activation, _SLOPES)
        check_positive("step", step, "the standard deviation of the walk's noise")
        self.output, self.activation, self.step, self.tied = output, activation, float(step), bool(tied)
        self.nonlinear = torch.sigmoid if activation == "sigmoid" else torch.tanh
        self.ladder = Ladder((self.visible, *self.hidden), self.tied)
        self.scaling = ColumnScaling(self.visible)
        self.register_buffer("mean", torch.full((self.visible,), 0.5))
        self.register_buffer("constant", torch.zeros(self.visible, dtype=torch.bool))

    def seen(self, x: Tensor) -> Tensor:
        return self.scaling(x)

    def _layers(self, x: Tensor) -> list[Tensor]:
        """The values of all hidden layers given rows."""
        values, h = [], self.seen(x)
        for layer in range(1, len(self.hidden) + 1):
            h = self.nonlinear(self.ladder.up(layer, h))
            values.append(h)
        return values

    def _output(self, h: Tensor) -> Tensor:
        """The decoder's output for codes, before a sigmoid and in standardised units."""
        for layer in range(len(self.hidden), 0, -1):
            h = self.ladder.down(layer, h) + self.ladder.biases[layer - 1]
            h = self.nonlinear(h) if layer > 1 else h
        return h if self.output == "sigmoid" else torch.where(self.constant, 0.0, h)

    def decode(self, h: Tensor) -> Tensor:
        """The rows g(h) that codes stand for: ``rows x visible``."""
        output = self._output(h)
        return torch.sigmoid(output) if self.output == "sigmoid" else self.scaling.back(output)

    def pulled_back(self, x: Tensor, direction: Tensor) -> Tensor:
        r"""$J^\top e$, the change of rows along directions of the code, for standardised columns: ``rows x visible``.

        Args:
            x: rows, ``rows x visible``.
            direction: e, ``rows x code``.
        """
        return self._pulled_back(self._layers(x), direction)

    def _pulled_back(self, values: Sequence[Tensor], direction: Tensor) -> Tensor:
        slope = _SLOPES[self.activation]
        for layer in range(len(self.hidden), 0, -1):
            direction = (direction * slope(values[layer - 1])) @ self.ladder.weights[layer - 1].t()
        return direction

    def _pushed(self, values: Sequence[Tensor], change: Tensor) -> Tensor:
        """J v, the change of codes along changes of rows."""
        slope = _SLOPES[self.activation]
        for layer in range(1, len(self.hidden) + 1):
            change = (change @ self.ladder.weights[layer - 1]) * slope(values[layer - 1])
        return change

    def moved(self, x: Tensor, noise: Tensor) -> Tensor:
        r"""The walk's step $g(f(x) + J J^\top \epsilon)$ for given noise: ``rows x visible``.

        Args:
            x: rows, ``rows x visible``.
            noise: $\epsilon$, ``rows x code``.
        """
        values = self._layers(x)
        return self.decode(values[-1] + self._pushed(values, self._pulled_back(values, noise)))

    def contraction(self, x: Tensor) -> Tensor:
        r"""$\|J\|_F^2$ of every row, for standardised columns; of several layers an unbiased estimate."""
        values = self._layers(x)
        if len(values) == 1:
            return _SLOPES[self.activation](values[0]).square() @ self.ladder.weights[0].square().sum(0)
        return self._pulled_back(values, torch.randn_like(values[-1])).square().sum(-1)

    def rebuilding_cost(self, x: Tensor) -> Tensor:
        """The cross-entropy, or half the squared error in standardised units, of every row rebuilt."""
        output = self._output(self._layers(x)[-1])
        if self.output == "sigmoid":
            return F.binary_cross_entropy_with_logits(output, x, reduction="none").sum(-1)
        return 0.5 * (output - self.seen(x)).square().sum(-1)

    def opening(self, x: Tensor) -> State:
        return {"visible": x}

    def next_state(self, state: State, clamp: Clamp | None) -> State:
        x = state["visible"]
        moved = self.moved(x, self.step * torch.randn(len(x), self.hidden[-1]).to(x))
        mask, value = (clamp or {}).get("visible", (None, None))
        return {"visible": moved if mask is None or value is None else torch.where(mask, value, moved)}

    def first_rows(self, n: int) -> Tensor:
        if self.output == "sigmoid":
            return torch.bernoulli(self.mean.expand(n, -1))
        noise = torch.randn(n, self.visible).to(self.mean)
        return self.scaling.back(torch.where(self.constant, 0.0, noise))

    def hidden_features(self, x: Tensor) -> Tensor:
        """The code f(x) of rows: ``rows x features``."""
        with torch.no_grad():
            return self._layers(x)[-1]

    def reconstruct(self, x: Tensor) -> Tensor:
        """The rows g(f(x)): ``rows x visible``."""
        with torch.no_grad(), evaluating(self):
            return self.decode(self._layers(x)[-1])

    def initialise(self, x: Tensor) -> None:
        """Take means (and scales of real columns) from data, and start the output's bias at the means."""
        with torch.no_grad():
            self.mean.copy_(x.mean(0))
            if self.output == "linear":
                self.scaling.fit(x)
                self.constant.copy_(constant(x))
            else:
                self.ladder.biases[0].copy_(torch.logit(self.mean, eps=1e-2))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Weights of earlier versions do not say which columns were constant.
        state_dict.setdefault(prefix + "constant", torch.zeros_like(self.constant))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """Minus the cost of rebuilding validation rows, and the norm of the Jacobian there."""
        rows = valid[:PROGRESS_ROWS]
        with torch.no_grad():
            cost, norm = self.rebuilding_cost(rows).mean(), self.contraction(rows).mean()
        return {"valid_negative_cost": -float(cost), "squared_jacobian": float(norm)}

    def objective(self, weight: float = 0.1) -> Objective:
        """Rebuilding with a penalty on the Jacobian (``dgm.Contractive``).

        Args:
            weight: as for ``dgm.Contractive``.
        """
        return Contractive(weight)

    def check_held(self, layer: str, known: Tensor, value: Tensor) -> None:
        super().check_held(layer, known, value)
        self._check_range(torch.where(known, value, 0.5))

    def check_data(self, x: Tensor) -> None:
        super().check_data(x)
        self._check_range(x)

    def _check_range(self, x: Tensor) -> None:
        if self.output == "sigmoid" and bool(((x < 0) | (x > 1)).any()):
            todo = advice.on_levels(x, "make it with output='linear'")
            raise ValueError(
                f"ContractiveAutoencoder with output='sigmoid' rebuilds columns in [0, 1]; the data reach from "
                f"{float(x.min()):g} to {float(x.max()):g}. {todo}"
            )

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible, "hidden": list(self.hidden), "output": self.output, "activation": self.activation,
            "step": self.step, "tied": self.tied,
        }  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(4, hidden=(6,)), lambda: torch.rand(10, 4))
