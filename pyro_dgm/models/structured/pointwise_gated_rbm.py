"""Point-wise gated Boltzmann machine, section 20.8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_columns, check_count, check_counts, check_one_hot, check_positive
from ...columns import location_and_variance
from ...energy import (
    Binary,
    BoltzmannDistribution,
    Categorical,
    Dense,
    Elementwise,
    Gaussian,
    Graph,
    Interaction,
    Masked,
    Unit,
    log_sum,
)
from ...energy.mean_field import mean_field
from ..shared.examples import bits, seeded
from ..shared.rows import ROWS_AT_ONCE, check_rows
from ..shared.variational_machine import VariationalMachine

_LISTED = 12
"""The most hidden units of all groups whose states are listed for the probabilities of classes."""


class PointwiseGatedRBM(VariationalMachine):
    r"""Machine whose every visible unit talks to one of several groups of hidden units (Sohn, Zhou, Lee and Lee 2013).

    $-E(v, z, h) = \sum_r \sum_i z_{ir} v_i (W_r h_r + c_r)_i + \sum_r b_r^\top h_r$ with a one-hot switch $z_i$ per visible unit
    (20.8): pixels of an object go to one group, those of the background to another. With classes the first group alone sees the
    label, $+\, y^\top V h_1 + d^\top y$, and becomes relevant for it. For real pixels of precision $\beta$,
    $v_i \mid z_i = r, h \sim \mathcal N((W_r h_r + c_r)_i, \beta^{-1})$, as in ``dgm.GaussianRBM``. All in nats.

    The posterior of switches and hidden units does not factorise; the guide is mean field, as in ``dgm.DBM``. A sweep of Gibbs
    sampling draws the switches with the pixels summed out, and then the pixels.

    Args:
        visible: the number of visible units, without the label.
        hidden: units of every group.
        classes: the number of classes, 0 without labels. With labels rows hold the visible columns and then a one-hot label.
        unit: the visible units, ``"binary"`` or ``"gaussian"`` with one learned precision.
        rounds: rounds of mean field in the guide.
        spread: the standard deviation of the first weights; back-propagation through mean field wants some hundredths.

    Attributes:
        weights: $W_r$, each ``visible x hidden[r]``.
        visible_bias: $c$, ``visible x groups``.
        hidden_biases: $b_r$.
        label_weight, label_bias: with labels V, ``classes x hidden[0]``, and d, ``classes``.
        log_precision: $\log\beta$, a scalar, for real pixels.

    Raises:
        ValueError: fewer than two groups, a number of units below one, a single class, an unknown unit, a
            spread that is not positive.

    Sohn, Zhou, Lee and Lee (2013), "Learning and selecting features jointly with point-wise gated Boltzmann machines".

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> machine = dgm.PointwiseGatedRBM(visible=6, hidden=(4, 3))
        >>> machine.switches(torch.zeros(2, 6)).shape
        torch.Size([2, 6, 2])
    """

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int] = (200, 200),
        classes: int = 0,
        unit: Literal["binary", "gaussian"] = "binary",
        rounds: int = 10,
        spread: float = 0.01,
    ) -> None:
        super().__init__()
        check_positive("spread", spread, "the standard deviation of the first weights")
        self.spread = spread
        visible, hidden = (
            check_columns(visible),
            check_counts("hidden", hidden, "units of every group", "(200, 200)", fewest=2),
        )
        check_choice("unit", unit, ("binary", "gaussian"))
        if check_count("classes", classes, 0, "0 without labels, or the number of classes") == 1:
            raise ValueError("classes got 1; expected 0 without labels, or the number of classes, at least 2")
        self.visible, self.hidden, self.classes, self.unit = visible, hidden, classes, unit
        self.rounds = check_count("rounds", rounds, what="the rounds of mean field")
        groups = tuple(f"hidden{number + 1}" for number in range(len(hidden)))
        self.names = ("mask", *groups)
        layers: dict[str, Unit] = {"visible": Binary(visible) if unit == "binary" else Gaussian(visible)}
        layers |= {
            "mask": Categorical(visible, len(hidden)),
            **{n: Binary(h) for n, h in zip(groups, hidden, strict=True)},
        }
        couplings: list[Interaction] = [Masked("visible", "mask", name, inner=r) for r, name in enumerate(groups)]
        couplings.append(Elementwise("visible", "mask"))
        if classes:
            layers["label"] = Categorical(1, classes)
            couplings.append(Dense("label", groups[0]))
            self.label_weight = nn.Parameter(spread * torch.randn(classes, hidden[0]))
            self.label_bias = nn.Parameter(torch.zeros(classes))
        self._graph = Graph(layers, couplings, joint=[("mask", "visible")])
        self.weights = nn.ParameterList(spread * torch.randn(visible, h) for h in hidden)
        self.visible_bias = nn.Parameter(torch.zeros(visible, len(hidden)))
        self.hidden_biases = nn.ParameterList(torch.zeros(h) for h in hidden)
        if unit == "gaussian":
            self.log_precision = nn.Parameter(torch.zeros(()))

    def forward(self) -> BoltzmannDistribution:
        """The distribution of the visible layer."""
        zeros, beta = self.visible_bias.new_zeros(()), 1.0 if self.unit == "binary" else self.log_precision.exp()
        visible: tuple[Tensor, ...] = (zeros.expand(self.visible),)
        groups: Tensor = self.visible_bias
        graph = self._graph
        if isinstance(beta, Tensor):
            visible = (*visible, (-0.5 * beta).expand(self.visible))
            # One group is on, so that what all have in common may be the origin.
            origin = self.visible_bias.detach().mean(1)
            graph, groups = graph.at(visible=origin), groups - origin.unsqueeze(-1)
        biases = {"visible": visible, "mask": (zeros.expand(self.visible, len(self.hidden)),)}
        biases |= {name: (b,) for name, b in zip(self.names[1:], self.hidden_biases, strict=True)}
        weights = [*(beta * w for w in self.weights), beta * groups.flatten()]
        if self.classes:
            biases["label"] = (self.label_bias.unsqueeze(0),)
            weights.append(self.label_weight)
        return BoltzmannDistribution(graph, biases, weights)

    def switches(self, x: Tensor, rounds: int = 50) -> Tensor:
        """P(z = r | v) by mean field: ``rows x visible x groups``."""
        means = self.mean_field(x, rounds).statistics["mask"][0]
        return means.unflatten(-1, (self.visible, len(self.hidden)))

    def predict_proba(self, x: Tensor, rounds: int = 50) -> Tensor:
        r"""$p(y \mid x)$: exactly with a few hidden units, else from the mean-field bound given every class: ``rows x classes``.

        Args:
            x: rows; a label behind the visible columns is ignored.
            rounds: rounds of mean field.

        Raises:
            ValueError: a machine without labels, or rows of another width.
        """
        if not self.classes:
            raise ValueError("this machine has no labels; make it with classes=10, say, and train it on labelled rows")
        if isinstance(x, Tensor) and x.shape[1:] == (self.visible + self.classes,):
            x = x[:, : self.visible]
        check_rows(x, torch.Size([self.visible]), type(self).__name__)
        each = torch.eye(self.classes, dtype=x.dtype, device=x.device)
        with torch.no_grad():
            return torch.cat([torch.softmax(self._scores(rows, each, rounds), -1) for rows in x.split(ROWS_AT_ONCE)])

    def _scores(self, x: Tensor, each: Tensor, rounds: int) -> Tensor:
        machine = self().machine
        if sum(self.hidden) <= _LISTED:
            return log_sum(machine, {"visible": x.unsqueeze(-2), "label": each.unsqueeze(-2)})
        scores = []
        for label in each:
            seen = {"visible": x, "label": label.expand(len(x), 1, -1)}
            posterior = mean_field(machine, seen, rounds)
            scores.append(posterior.entropy + machine.value({**posterior.statistics, **machine.statistics(seen)}))
        return torch.stack(scores, -1)

    def check_data(self, x: Tensor) -> None:
        super().check_data(x[..., : self.visible] if self.classes and isinstance(x, Tensor) else x)
        if self.classes and isinstance(x, Tensor) and x.shape[1:] != (self.visible,):
            check_rows(x, torch.Size([self.visible + self.classes]), "PointwiseGatedRBM with labels")
            check_one_hot(x[:, self.visible :], "PointwiseGatedRBM")

    def initialise(self, x: Tensor) -> None:
        """Set every group's visible biases to the data's means, a little apart, and the precision of real pixels."""
        if bool(self.visible_bias.detach().any()):
            return
        visible = self.observed(x)["visible"]
        with torch.no_grad():
            location, variances = location_and_variance(visible)
            mean = location.unsqueeze(-1)
            if self.unit == "gaussian":
                variance = variances.mean()
                self.log_precision.copy_(-variance.log())
                for weight, bias in zip(self.weights, self.hidden_biases, strict=True):
                    weight.mul_(variance.sqrt())
                    bias.sub_((location / variance) @ weight / len(self.hidden))
                self.visible_bias.copy_(mean + 0.1 * variance.sqrt() * torch.randn_like(self.visible_bias))
            else:
                self.visible_bias.copy_(torch.logit(mean, eps=1e-3) + 0.1 * torch.randn_like(self.visible_bias))

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": list(self.hidden), "classes": self.classes, "unit": self.unit,
                "rounds": self.rounds, "spread": self.spread}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=4, hidden=(2, 2)), lambda: bits(10, 4), scale=0.7)
