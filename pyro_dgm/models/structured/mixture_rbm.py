"""Implicit mixture of restricted Boltzmann machines, section 20.8."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_columns, check_count
from ...energy import Binary, BoltzmannDistribution, Categorical, Dense, Graph, ThreeWay, log_sum
from ..shared.boltzmann import BoltzmannModel
from ..shared.examples import bits, seeded


class MixtureRBM(BoltzmannModel):
    r"""Implicit mixture of restricted Boltzmann machines (Nair and Hinton 2009).

    $-E(v, h, z) = \sum_k z_k (d_k + b_k^\top v + c_k^\top h + v^\top W_k h)$ with a one-hot z (20.8), so that
    $p(v) = \sum_k \pi_k\, p_k(v)$, where $p_k$ is the RBM of component k. The shares $\pi_k = Z_k / Z$ are implicit: they follow
    from all parameters. Responsibilities $P(z_k = 1 \mid v) \propto e^{-F_k(v)}$ are exact, and so a sweep of Gibbs sampling
    draws the component with the hidden units summed out, and then them. All in nats.

    Where components lie far apart, chains hardly go from one to another, and training by plain ``PCD`` leaves shares that the
    data do not have. Tempered chains do go: ``objective=dgm.NegativePhaseObjective(dgm.PCD(kernel=dgm.ParallelTempering))`` of
    ``dgm.fit``; for few units ``model.objective("exact")`` needs no chains.

    ``mixture()`` is a distribution of ``event_shape`` (visible,).

    Args:
        visible: the number of visible units.
        hidden: the number of hidden units of every component.
        components: the number of machines in the mixture, K.

    Attributes:
        weight: $W$, ``components x visible x hidden``.
        visible_bias: $b$, ``components x visible``.
        hidden_bias: $c$, ``components x hidden``.
        component_bias: $d$, ``components``.

    Raises:
        ValueError: a number of units below one, or fewer than two components.

    Nair and Hinton (2009), "Implicit mixtures of restricted Boltzmann machines".

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> mixture = dgm.MixtureRBM(visible=6, hidden=4, components=3)
        >>> mixture.responsibilities(torch.zeros(2, 6)).shape
        torch.Size([2, 3])
    """

    def __init__(self, visible: int, hidden: int = 100, components: int = 10) -> None:
        super().__init__()
        visible, hidden = check_columns(visible), check_count("hidden", hidden, what="the hidden units of a component")
        components = check_count("components", components, 2, "the number of machines that are mixed")
        self.visible, self.hidden, self.components = visible, hidden, components
        layers = {"visible": Binary(visible), "hidden": Binary(hidden), "component": Categorical(1, components)}
        couplings = [
            ThreeWay("visible", "hidden", "component"),
            Dense("visible", "component"),
            Dense("hidden", "component"),
        ]
        self._graph = Graph(layers, couplings, joint=[("component", "hidden")])
        self.weight = nn.Parameter(0.01 * torch.randn(components, visible, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(components, visible))
        self.hidden_bias = nn.Parameter(torch.zeros(components, hidden))
        self.component_bias = nn.Parameter(torch.zeros(components))

    def forward(self) -> BoltzmannDistribution:
        """The distribution of the visible layer."""
        zeros = self.weight.new_zeros(())
        biases = {
            "visible": (zeros.expand(self.visible),),
            "hidden": (zeros.expand(self.hidden),),
            "component": (self.component_bias.unsqueeze(0),),
        }
        weights = (self.weight.permute(1, 2, 0), self.visible_bias.mT, self.hidden_bias.mT)
        return BoltzmannDistribution(self._graph, biases, weights)

    def responsibilities(self, x: Tensor) -> Tensor:
        r"""$P(z_k = 1 \mid v)$, exactly: ``batch_shape x components``."""
        return torch.softmax(self._log_sums({"visible": x.unsqueeze(-2)}), -1)

    def shares(self) -> Tensor:
        r"""$\pi_k = Z_k / Z$, exactly: ``components``.

        Raises:
            NotEnumerable: a component has too many states to list.
        """
        return torch.softmax(self._log_sums({}), -1)

    def _log_sums(self, given: dict[str, Tensor]) -> Tensor:
        """Log-sums over the layers that are not given, for every component: ``batch_shape x components``."""
        each = torch.eye(self.components, dtype=self.weight.dtype, device=self.weight.device).unsqueeze(-2)
        with torch.no_grad():
            return log_sum(self().machine, {**given, "component": each})

    def initialise(self, x: Tensor) -> None:
        """Start near a mixture of independent columns, one for every cluster of rows, unless biases were set already.

        Components that started alike would starve: the first to be a little better takes all rows.
        """
        if bool(self.visible_bias.detach().any()):
            return
        with torch.no_grad():
            members = _clusters(x, self.components)
            count = members.sum(0)
            # One row more of the data's means keeps columns that are constant within a cluster possible.
            mean = (members.mT @ x + x.mean(0)) / (count + 1).unsqueeze(1)
            self.visible_bias.copy_(torch.logit(mean, eps=1e-3))
            share = (count + 1) / (count + 1).sum()
            self.component_bias.copy_(share.log() - F.softplus(self.visible_bias).sum(1))

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": self.hidden, "components": self.components}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=5, hidden=3, components=2), lambda: bits(10, 5), scale=0.7)


def _clusters(x: Tensor, count: int, rounds: int = 10) -> Tensor:
    """Rows by their nearest centre after some rounds of Lloyd's algorithm from random rows: one-hot, ``rows x count``."""
    centres = x[torch.randint(len(x), (count,), device=x.device)]
    for _ in range(rounds):
        members = F.one_hot(torch.cdist(x, centres).argmin(1), count).to(x)
        total = members.sum(0).unsqueeze(1)
        fresh = x[torch.randint(len(x), (count,), device=x.device)]  # for a cluster without rows
        centres = torch.where(total > 0, members.mT @ x / total.clamp_min(1), fresh)
    return members
