"""A recurrent network over frames, each drawn by a restricted Boltzmann machine: section 20.7."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_count
from ...energy import Binary, BoltzmannDistribution, Dense, Graph
from ...energy.interactions import GatedFactors
from ..shared.examples import seeded, sequences
from ..shared.frames import check_frames
from ..shared.machine_frames import MachineFramesModel

_CELLS = {"tanh": nn.RNN, "gru": nn.GRU}


class RNNRBM(MachineFramesModel):
    r"""RNN-RBM (Boulanger-Lewandowski, Bengio and Vincent 2012): one RBM per frame, with biases from a recurrent network.

    $p(x) = \prod_t p(x_t \mid u_{t-1})$ with $u_t = \tanh(W_{vu} x_t + W_{uu} u_{t-1} + d)$ or a gated recurrence. The machine of
    frame t has the biases $b + W_{uv} u_{t-1}$ and $c + W_{uh} u_{t-1}$, and with a ``rank`` K also weights of its own,
    $W + P\, \mathrm{diag}(S^\top u_{t-1})\, Q^\top$ (20.7), which are never made. All in nats per sequence; all frames of all
    sequences are one batch of machines.

    A row is a padded sequence (``dgm.data.pad``): T frames of D bits and of a column that is 1 where the frame exists. Rows may
    have any number of frames. Lengths are given, not modelled.

    Args:
        visible: the number of columns of the data; ``sample`` draws sequences of as many columns.
        features: the number of bits of a frame, D.
        hidden: the number of hidden units of a frame's machine.
        recurrent: the number of units of the recurrent network.
        cell: ``"tanh"`` or ``"gru"``.
        rank: K, 0 for weights that all frames share.

    Attributes:
        weight: $W$, ``features x hidden``.
        visible_bias, hidden_bias: $b$ and $c$.
        to_visible, to_hidden: $W_{uv}$ and $W_{uh}$, without biases.
        recurrence: the recurrent network; ``first`` is its state before the first frame, learned.
        factors_visible, factors_hidden, factors_state: with a rank, P, ``features x K``, Q, ``hidden x K``, S, ``recurrent x K``.

    Raises:
        ValueError: sizes below one, ``visible`` no multiple of ``features + 1``, an unknown cell.

    Boulanger-Lewandowski, Bengio and Vincent (2012), "Modeling temporal dependencies in high-dimensional sequences".

    See also:
        ``dgm.RTRBM``, whose recurrent units are the hidden units' means; ``dgm.RNNNADE``, with exact likelihoods.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rows = dgm.data.pad([torch.ones(3, 2), torch.zeros(5, 2)])
        >>> model = dgm.RNNRBM(rows.shape[1], features=2, hidden=4, recurrent=3)
        >>> model.evidence(rows).values.shape, model.extend(rows, 2).shape
        (torch.Size([2]), torch.Size([2, 2, 2]))
    """

    def __init__(
        self,
        visible: int,
        features: int,
        hidden: int = 150,
        recurrent: int = 100,
        cell: Literal["tanh", "gru"] = "tanh",
        rank: int = 0,
    ) -> None:
        super().__init__()
        check_frames(visible, features, hidden=hidden, recurrent=recurrent)
        check_choice("cell", cell, _CELLS)
        rank = check_count("rank", rank, 0, "the rank of the frames' own weights, or 0")
        self.visible, self.features, self.hidden, self.recurrent = visible, features, hidden, recurrent
        self.cell, self.rank, self.frames = cell, rank, visible // (features + 1)
        self._graph = Graph({"visible": Binary(features), "hidden": Binary(hidden)}, [Dense("visible", "hidden")])
        self.weight = nn.Parameter(0.01 * torch.randn(features, hidden))
        self.visible_bias = nn.Parameter(torch.zeros(features))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.to_visible = nn.Linear(recurrent, features, bias=False)
        self.to_hidden = nn.Linear(recurrent, hidden, bias=False)
        self.recurrence = _CELLS[cell](features, recurrent, batch_first=True)
        self.first = nn.Parameter(torch.zeros(recurrent))
        if rank:
            self.factors_visible = nn.Parameter(0.1 * torch.randn(features, rank))
            self.factors_hidden = nn.Parameter(0.1 * torch.randn(hidden, rank))
            self.factors_state = nn.Parameter(0.1 * torch.randn(recurrent, rank))

    def forward(self, state: Tensor | None = None) -> BoltzmannDistribution:
        state = self.first if state is None else state
        biases = {
            "visible": (self.visible_bias + self.to_visible(state),),
            "hidden": (self.hidden_bias + self.to_hidden(state),),
        }
        if not self.rank:
            return BoltzmannDistribution(self._graph, biases, [self.weight])
        (dense,) = self._graph.interactions
        factors = GatedFactors(dense.ends, [self.factors_visible, self.factors_hidden])
        graph = Graph(self._graph.layers, [dense, factors])
        return BoltzmannDistribution(graph, biases, [self.weight, state @ self.factors_state])

    def start(self, rows: int) -> Tensor:
        return self.first.expand(rows, -1)

    def advance(self, values: Tensor, state: Tensor) -> Tensor:
        return self.recurrence(values.unsqueeze(1), state.unsqueeze(0).contiguous())[1].squeeze(0)

    def states(self, values: Tensor) -> Tensor:
        start = self.start(len(values)).unsqueeze(1)
        if values.shape[1] == 1:
            return start
        later, _ = self.recurrence(values[:, :-1], start.transpose(0, 1).contiguous())
        return torch.cat([start, later], 1)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "features": self.features, "hidden": self.hidden, "recurrent": self.recurrent,
                "cell": self.cell, "rank": self.rank}  # fmt: skip

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(12, features=2, hidden=3, recurrent=4, rank=2), sequences, scale=0.7)
