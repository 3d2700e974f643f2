"""The recurrent cell of DRAW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class State(NamedTuple):
    """The state of a recurrent cell: its output ``shown`` and its memory ``kept``, each ``batch_shape x hidden``."""

    shown: Tensor
    kept: Tensor


class Cell(nn.Module):
    r"""Long short-term memory (Hochreiter and Schmidhuber 1997) over inputs whose batch shapes broadcast.

    $i, f, o = \sigma(\cdot)$ and $g = \tanh(\cdot)$ of $W u + U h + b$; $c' = f c + i g$, $h' = o \tanh c'$: the equations and
    the order of the gates ($i, f, g, o$) are those of ``torch.nn.LSTMCell``. The initial state is learned. The input has
    several parts that are never joined, so that a part common to particles or steps is multiplied by its weights once.

    Args:
        inputs: the number of columns of every part.
        hidden: the number of units of the state.
    """

    def __init__(self, inputs: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(n, 4 * hidden, bias=False) for n in inputs)
        self.recurrent = nn.Linear(hidden, 4 * hidden)
        self.first = nn.Parameter(torch.zeros(2, hidden))
        with torch.no_grad():
            # The forget gates start open, so that the memory is kept at first.
            self.recurrent.bias[hidden : 2 * hidden] += 1.0

    def start(self) -> State:
        """The learned initial state, each part of shape ``(hidden,)``."""
        return State(*self.first.unbind())

    def weigh(self, part: int, values: Tensor) -> Tensor:
        """One part's contribution to the gates, ``batch_shape x (4 * hidden)``; its values are ``batch_shape x inputs[part]``."""
        return self.parts[part](values)

    def forward(self, contributions: Tensor, state: State) -> State:
        """The next state, given the sum of the contributions of the input's parts."""
        gates = contributions + self.recurrent(state.shown)
        input_gate, forget_gate, candidate, output_gate = gates.chunk(4, -1)
        kept = forget_gate.sigmoid() * state.kept + input_gate.sigmoid() * candidate.tanh()
        return State(output_gate.sigmoid() * kept.tanh(), kept)
