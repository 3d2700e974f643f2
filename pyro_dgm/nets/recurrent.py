"""The parts of DRAW: the window of Gaussian filters, the recurrent cell, and the network made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class State(NamedTuple):
    """A recurrent cell's state: what it shows and what it keeps, each ``batch_shape x hidden``."""

    shown: Tensor
    kept: Tensor


class Cell(nn.Module):
    r"""Long short-term memory (Hochreiter and Schmidhuber 1997) over inputs whose batch shapes broadcast.

    $i, f, o = \sigma(\cdot)$ and $g = \tanh(\cdot)$ of $W u + U h + b$; $c' = f c + i g$, $h' = o \tanh c'$: the equations and
    the order of the gates ($i, f, g, o$) are those of ``torch.nn.LSTMCell``. The initial state is learned. The input comes in
    parts that are never put together, so what particles or steps share is multiplied once.

    Args:
        inputs: the columns of every part.
        hidden: units of the state.
    """

    def __init__(self, inputs: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(n, 4 * hidden, bias=False) for n in inputs)
        self.recurrent = nn.Linear(hidden, 4 * hidden)
        self.first = nn.Parameter(torch.zeros(2, hidden))
        with torch.no_grad():
            self.recurrent.bias[hidden : 2 * hidden] += 1.0  # what is kept at first is not forgotten

    def start(self) -> State:
        """The learned initial state, each part of shape ``(hidden,)``."""
        return State(*self.first.unbind())

    def weigh(self, part: int, values: Tensor) -> Tensor:
        """What one part of the input, ``batch_shape x inputs[part]``, brings to the gates: ``batch_shape x (4 * hidden)``."""
        return self.parts[part](values)

    def forward(self, brought: Tensor, state: State) -> State:
        """The next state, given the sum of what the parts of the input bring."""
        gates = brought + self.recurrent(state.shown)
        put, keep, new, show = gates.chunk(4, -1)
        kept = keep.sigmoid() * state.kept + put.sigmoid() * new.tanh()
        return State(show.sigmoid() * kept.tanh(), kept)
