"""Recurrent temporal restricted Boltzmann machine, section 20.7."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from ...energy import Binary, BoltzmannDistribution, Dense, Graph
from ..shared.examples import seeded, sequences
from ..shared.frames import check_frames
from ..shared.machine_frames import MachineFramesModel


class RTRBM(MachineFramesModel):
    r"""Recurrent temporal RBM (Sutskever, Hinton and Taylor 2008): every frame's RBM is shifted by the hidden means before it.

    The machine of frame t has the hidden bias $c + r_{t-1}^\top U$, and $c_0$ in the first frame, where
    $r_t = \sigma(x_t^\top W + c + r_{t-1}^\top U)$ is exactly $E[h_t \mid x_1 \ldots x_t]$ (20.7). It is an RNN-RBM with logistic
    recurrent units and tied weights. All in nats per sequence.

    Rows are padded sequences (``dgm.data.pad``) of any number of frames. Lengths are given, not modelled.

    Args:
        visible: the number of columns of the data; ``sample`` draws sequences of as many columns.
        features: the number of bits of a frame, D.
        hidden: the number of hidden units of a frame's machine.

    Attributes:
        weight: $W$, ``features x hidden``.
        recurrent_weight: $U$, ``hidden x hidden``.
        visible_bias, hidden_bias, first_bias: $b$, $c$ and $c_0$.

    Raises:
        ValueError: sizes below one, ``visible`` no multiple of ``features + 1``.

    Sutskever, Hinton and Taylor (2008), "The recurrent temporal restricted Boltzmann machine".

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rows = dgm.data.pad([torch.ones(3, 2), torch.zeros(5, 2)])
        >>> model = dgm.RTRBM(rows.shape[1], features=2, hidden=4)
        >>> model.evidence(rows).values.shape
        torch.Size([2])
    """

    def __init__(self, visible: int, features: int, hidden: int = 150) -> None:
        super().__init__()
        check_frames(visible, features, hidden=hidden)
        self.visible, self.features, self.hidden = visible, features, hidden
        self.frames = visible // (features + 1)
        self._graph = Graph({"visible": Binary(features), "hidden": Binary(hidden)}, [Dense("visible", "hidden")])
        self.weight = nn.Parameter(0.01 * torch.randn(features, hidden))
        self.recurrent_weight = nn.Parameter(0.01 * torch.randn(hidden, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(features))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.first_bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, state: Tensor | None = None) -> BoltzmannDistribution:
        hidden = self.first_bias if state is None else state
        return BoltzmannDistribution(
            self._graph, {"visible": (self.visible_bias,), "hidden": (hidden,)}, (self.weight,)
        )

    def start(self, rows: int) -> Tensor:
        """A state is the hidden bias of the next frame."""
        return self.first_bias.expand(rows, -1)

    def advance(self, values: Tensor, state: Tensor) -> Tensor:
        means = torch.sigmoid(values @ self.weight + state)
        return self.hidden_bias + means @ self.recurrent_weight

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "features": self.features, "hidden": self.hidden}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(12, features=2, hidden=3), sequences, scale=0.7)
