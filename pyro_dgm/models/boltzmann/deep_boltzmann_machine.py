"""Deep Boltzmann machine, section 20.4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...checks import (
    check_choice,
    check_columns,
    check_count,
    check_counts,
    check_one_hot,
    check_positive,
)
from ...columns import location_and_variance
from ...energy import Binary, BoltzmannDistribution, Categorical, Dense, Gaussian, Graph, Unit
from ...nets.bodies import classifier
from ..shared.examples import bits, seeded
from ..shared.layerwise import Stage
from ..shared.rows import check_rows
from ..shared.variational_machine import VariationalMachine
from ._doubled import doubled_stages, restricted_stage

_UNITS: dict[str, type[Unit]] = {"binary": Binary, "gaussian": Gaussian}

_SPREAD = 0.01
"""The standard deviation of the first weights."""


class DBM(VariationalMachine):
    r"""Deep Boltzmann machine with any number of binary hidden layers (Salakhutdinov and Hinton 2009).

    $E(v, h) = -b^\top v - \sum_l c_l^\top h_l - v^\top W_1 h_1 - \sum_{l>1} h_{l-1}^\top W_l h_l$ (20.24-25, with biases). The
    odd and the even layers are two blocks of Gibbs sampling (20.26-28).

    ``model(x)`` has a site for every hidden layer and ``"x"``; their joint log-probability is $-E(x, h) - \log Z$. The guide is
    the mean-field posterior (20.29-34) after ``rounds`` rounds of its fixed-point equations, so that ``Trace_ELBO`` with
    ``dgm.PCD`` is variational stochastic maximum likelihood (algorithm 20.1) and the ELBO is (20.35). Any other guide with the
    same sites works too, for example a recognition network.

    Args:
        visible: the number of visible units.
        hidden: units of every hidden layer, the lowest first.
        unit: the visible units, ``"binary"`` or ``"gaussian"`` (of precision one: standardise the data).
        rounds: rounds of mean field in the guide.
        classes: the number of classes, 0 without labels. With labels data rows hold the visible columns and a one-hot
            label, the label layer is coupled to the top hidden layer (figure 20.4), and ``model(x)`` has a site
            ``"label"`` as well.
        spread: the standard deviation of the first weights. Multi-prediction learns through rounds of mean field and needs
            larger weights (0.05) than stochastic maximum likelihood: small ones let hardly any gradient pass.

    Attributes:
        weights: $W_1, W_2, \ldots$, each ``layer below x layer``.
        visible_bias: $b$, ``visible``.
        hidden_biases: $c_1, c_2, \ldots$
        label_weight, label_bias: with labels, ``top layer x classes`` and ``1 x classes``.

    Raises:
        ValueError: no hidden layer, an unknown unit, no round of mean field, or a spread that is not positive.

    See also:
        ``dgm.pretrain`` for greedy pretraining; ``dgm.PCD(centred=True)`` trains it without.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> dbm = dgm.DBM(visible=6, hidden=(4, 3))
        >>> [tuple(mean.shape) for mean in dbm.posterior(torch.zeros(2, 6))]
        [(2, 4), (2, 3)]
    """

    def __init__(
        self,
        visible: int,
        hidden: Sequence[int] = (500, 1000),
        unit: str = "binary",
        rounds: int = 10,
        classes: int = 0,
        spread: float = _SPREAD,
    ) -> None:
        super().__init__()
        check_positive("spread", spread, "the standard deviation of the first weights")
        visible, hidden = check_columns(visible), check_counts("hidden", hidden, example="(500, 1000)")
        check_choice("unit", unit, _UNITS)
        rounds = check_count("rounds", rounds, what="the rounds of mean field")
        if check_count("classes", classes, 0, "0 without labels, or the number of classes") == 1:
            raise ValueError("classes got 1; expected 0 without labels, or the number of classes, at least 2")
        self.visible, self.hidden, self.unit, self.rounds, self.classes = visible, hidden, unit, rounds, classes
        self.spread = spread
        self.names = tuple(f"hidden{number + 1}" for number in range(len(hidden)))
        below = ("visible", *self.names)
        units: dict[str, Unit] = {"visible": _UNITS[unit](visible)}
        units |= {name: Binary(n) for name, n in zip(self.names, hidden, strict=True)}
        couplings = [Dense(a, b) for a, b in zip(below[:-1], below[1:], strict=True)]
        if classes:
            units["label"] = Categorical(1, classes)
            couplings.append(Dense(self.names[-1], "label"))
            self.label_weight = nn.Parameter(spread * torch.randn(hidden[-1], classes))
            self.label_bias = nn.Parameter(torch.zeros(1, classes))
        self._graph = Graph(units, couplings)
        sizes = (visible, *hidden)
        self.weights = nn.ParameterList(spread * torch.randn(m, n) for m, n in zip(sizes[:-1], sizes[1:], strict=True))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_biases = nn.ParameterList(torch.zeros(n) for n in hidden)

    def forward(self) -> BoltzmannDistribution:
        """The distribution of the visible layer."""
        like = self.visible_bias
        visible: tuple[Tensor, ...] = (like,)
        graph = self._graph
        if self.unit == "gaussian":
            origin = like.detach()
            visible, graph = (like - origin, torch.full_like(like, -0.5)), graph.at(visible=origin)
        biases = {"visible": visible} | {n: (b,) for n, b in zip(self.names, self.hidden_biases, strict=True)}
        if not self.classes:
            return BoltzmannDistribution(graph, biases, tuple(self.weights))
        return BoltzmannDistribution(graph, {**biases, "label": (self.label_bias,)}, (*self.weights, self.label_weight))

    def initialise(self, x: Tensor) -> None:
        """Set the visible biases to the data's, unless they were set already; first hidden ones allow for those of real data."""
        if self.unit == "binary":
            return super().initialise(x)
        if not bool(self.visible_bias.detach().any()):
            with torch.no_grad():
                self.visible_bias.copy_(location_and_variance(self.observed(x)["visible"])[0])
                self.hidden_biases[0].sub_(self.visible_bias @ self.weights[0])

    def rate_factors(self, rates: Sequence[float]) -> dict[str, float]:
        """The factors of every hidden layer's biases and of the weights below it."""
        if len(rates) != len(self.hidden) or min(rates) < 0:
            raise ValueError(
                f"rates got {rates!r}; expected {len(self.hidden)} factors of at least 0, one per hidden layer"
            )
        return {f"{name}.{i}": float(r) for i, r in enumerate(rates) for name in ("weights", "hidden_biases")}

    def posterior(self, x: Tensor, rounds: int = 50) -> tuple[Tensor, ...]:
        """Mean-field means of every hidden layer given rows (20.33-34), with labels or without, as features for a classifier."""
        statistics = self.mean_field(x, rounds).statistics
        return tuple(statistics[name][0] for name in self.names)

    def predict_proba(self, x: Tensor, rounds: int = 50) -> Tensor:
        """Mean-field probabilities of the classes given visible rows: ``rows x classes``.

        Raises:
            ValueError: the machine has no label layer; rows of another width, or NaN.
        """
        if not self.classes:
            raise ValueError("this DBM has no labels; make it with classes=10, say, and train it on labelled rows")
        return self.mean_field(self._columns(x), rounds).statistics["label"][0]

    def _columns(self, x: Tensor) -> Tensor:
        """The visible columns of rows with labels or without."""
        columns = x[:, : self.visible] if x.shape[1:] == (self.visible + self.classes,) else x
        check_rows(columns, torch.Size([self.visible]), type(self).__name__)
        return columns

    def without_labels(self) -> DBM:
        """A copy of this machine without the label layer, for features that do not depend on it (figure 20.4 d)."""
        other = DBM(**{**self.options(), "classes": 0}).to(self.visible_bias)
        kept = other.state_dict().keys()
        other.load_state_dict({name: value for name, value in self.state_dict().items() if name in kept})
        other.fresh = self.fresh
        return other

    def classifier_input(self, x: Tensor, rounds: int = 50) -> Tensor:
        """The input of ``to_mlp``'s network: rows joined with the mean-field means of their second hidden layer."""
        x = self._columns(x)
        return torch.cat([x, self.without_labels().posterior(x, rounds)[1]], -1)

    def to_mlp(self, classes: int, dropout: float = 0.0) -> nn.Module:
        """A classifier of rows joined with their mean-field features, as figure 20.4 d has it.

        Its input is ``classifier_input(x)``: the first layer sees the data and the mean-field means of the second hidden
        layer, with this machine's weights. A fresh softmax layer is on top.

        Raises:
            ValueError: fewer than two hidden layers.
        """
        if len(self.hidden) < 2:
            raise ValueError(f"to_mlp got a machine with {len(self.hidden)} hidden layer; expected two or more")
        first = torch.cat([self.weights[0], self.weights[1].t()]), self.hidden_biases[0]
        others = list(zip(self.weights[1:], self.hidden_biases[1:], strict=True))
        return classifier([(W.detach(), c.detach()) for W, c in (first, *others)], classes, dropout)

    def stages(self, scheme: str = "doubled") -> Iterator[Stage]:
        """The machines that ``dgm.pretrain`` trains.

        Args:
            scheme: ``"doubled"`` for one machine per layer, doubled in place of the inputs of other layers (20.4.4), or
                ``"restricted"`` for the machine of the two lowest layers alone, from which the others grow.

        Raises:
            ValueError: an unknown scheme.
        """
        check_choice("scheme", scheme, ("doubled", "restricted"))
        return doubled_stages(self) if scheme == "doubled" else restricted_stage(self)

    def check_data(self, x: Tensor) -> None:
        super().check_data(x[..., : self.visible] if self.classes and isinstance(x, Tensor) else x)
        if self.classes:
            check_rows(
                x, torch.Size([self.visible + self.classes]), "DBM with labels (visible columns, then one-hot labels)"
            )
            check_one_hot(x[:, self.visible :], "DBM")

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": list(self.hidden), "unit": self.unit, "rounds": self.rounds,
                "classes": self.classes, **({} if self.spread == _SPREAD else {"spread": self.spread})}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=5, hidden=(4, 3)), lambda: bits(10, 5), scale=0.7)
