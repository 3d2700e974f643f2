"""Restricted Boltzmann machine, section 20.2."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from ...energy import Binary, BoltzmannDistribution, Dense, Graph
from ..shared.boltzmann import BoltzmannModel
from ..shared.examples import bits, seeded
from ..shared.shifts import shifted


class RBM(BoltzmannModel):
    r"""Restricted Boltzmann machine with binary units (Smolensky 1986; Hinton 2002).

    $E(v, h) = -b^\top v - c^\top h - v^\top W h$ (20.4-6), so that $P(h_j = 1 \mid v) = \sigma(c_j + v^\top W_{:,j})$ (20.7-16)
    and $F(v) = -b^\top v - \sum_j \mathrm{softplus}(c_j + v^\top W_{:,j})$, all in nats.

    ``rbm()`` is a distribution of ``event_shape`` (visible,); with shifts of the biases it has their batch shape.

    Args:
        visible: the number of visible units.
        hidden: the number of hidden units.

    Attributes:
        weight: $W$, ``visible x hidden``.
        visible_bias: $b$, ``visible``.
        hidden_bias: $c$, ``hidden``.

    Raises:
        ValueError: a number of units below one.

    See also:
        ``dgm.BoltzmannMachine`` for any other connectivity; ``dgm.negative_phase`` to train it.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rbm = dgm.RBM(visible=6, hidden=4)
        >>> rbm().free_energy(torch.zeros(2, 6)).shape
        torch.Size([2])
    """

    def __init__(self, visible: int, hidden: int = 500) -> None:
        super().__init__()
        self._graph = Graph({"visible": Binary(visible), "hidden": Binary(hidden)}, [Dense("visible", "hidden")])
        self.visible, self.hidden = visible, hidden
        self.weight = nn.Parameter(0.01 * torch.randn(visible, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, visible_shift: Tensor | None = None, hidden_shift: Tensor | None = None) -> BoltzmannDistribution:
        """The distribution of the visible layer.

        Args:
            visible_shift: added to $b$, ``batch_shape x visible``: with a context every row has its own machine.
            hidden_shift: added to $c$, ``batch_shape x hidden``.
        """
        visible = shifted(self.visible_bias, visible_shift, "visible_shift")
        hidden = shifted(self.hidden_bias, hidden_shift, "hidden_shift")
        return BoltzmannDistribution(self._graph, {"visible": (visible,), "hidden": (hidden,)}, (self.weight,))

    def visible_biases(self) -> tuple[Tensor, ...]:
        return (self.visible_bias,)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "hidden": self.hidden}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=6, hidden=4), lambda: bits(10, 6), scale=1.0)
