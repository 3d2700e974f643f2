"""Padded sequences whose frames come from a recurrent network and an autoregressive one, one after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from ..autoregressive import AutoregressiveDistribution, Output
from ..autoregressive.network import Network
from ..autoregressive.outputs.names import advice
from ..data.sequences import checked_frames, join_frames
from .padded_frames import join
from .support import RowSupport


def check_values(output: Output, values: Tensor, name: str) -> None:
    """Refuse frames, ``sequences x T x D``, with values that their columns cannot have."""
    outside = output.outside(values.flatten(0, 1)).view(values.shape).flatten(1).any(1)
    if bool(outside.any()):
        sequence = int(outside.nonzero()[0])
        fault = str(output.fault(values[sequence])).replace(" in row ", " in frame ")
        raise ValueError(f"{name} got, in sequence {sequence}, {fault}. {advice(output, values)}")


class RecurrentFrames(TorchDistribution):
    """Padded sequences, each frame of which depends on those before it: ``event_shape`` (frames x (features + 1),).

    ``log_prob`` reads a sequence's length from the value, and sums to one over all sequences of one length. Draws have the
    full length.

    Args:
        network: the network of a frame's conditionals given a state.
        recurrence: the network that maps a state and a frame to the next state.
        start: the state before the first frame.
        output: the values' families.
        length: the number of frames of a draw.
        context: ``batch_shape x C``, numbers that every frame also depends on; C may be 0.
    """

    arg_constraints: dict[str, Any] = {}

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        return RowSupport(self.output.support)

    def __init__(
        self,
        network: Network,
        recurrence: nn.RNNBase,
        start: Tensor,
        output: Output,
        length: int,
        context: Tensor,
    ) -> None:
        self.network, self.recurrence, self.start, self.output = network, recurrence, start, output
        self.length, self.features, self.context = length, len(network.order), context
        event = torch.Size([length * (self.features + 1)])
        super().__init__(context.shape[:-1], event, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> RecurrentFrames:
        context = self.context.expand(*batch_shape, self.context.shape[-1])
        return RecurrentFrames(self.network, self.recurrence, self.start, self.output, self.length, context)

    def frame(self, state: Tensor, context: Tensor) -> AutoregressiveDistribution:
        """The distribution of a frame after a state of the recurrent network, ``batch_shape x recurrent``."""
        return AutoregressiveDistribution(self.network, self.output, join(state, context))

    def states(self, values: Tensor, context: Tensor) -> Tensor:
        """The states $u_0$ to $u_{T-1}$ before each frame: ``rows x T x D`` and ``rows x C`` to ``rows x T x recurrent``."""
        start = self.start.expand(len(values), 1, -1)
        if values.shape[1] == 1:
            return start
        inputs = join(self.output.encode(values[:, :-1]).flatten(2), context.unsqueeze(1))
        later_states, _ = self.recurrence(inputs, start.transpose(0, 1).contiguous())
        return torch.cat([start, later_states], 1)

    def advance(self, values: Tensor, state: Tensor, context: Tensor) -> Tensor:
        """The state after one more frame, from ``rows x D``, ``rows x recurrent`` and ``rows x C``."""
        inputs = join(self.output.encode(values).flatten(1), context).unsqueeze(1)
        return self.recurrence(inputs, state.unsqueeze(0).contiguous())[1].squeeze(0)

    def log_prob(self, value: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        value = value if value.is_floating_point() else value.to(self.start.dtype)
        context = self.context
        if context.shape[-1]:
            value = value.expand(*batch, value.shape[-1])
            context = context.expand(*batch, context.shape[-1])
        else:  # all rows have one law: score each once, and expand
            context = context.new_zeros(*value.shape[:-1], 0)
        values, present = checked_frames(value.reshape(-1, value.shape[-1]), self.features)
        check_values(self.output, values, "RecurrentFrames")
        context = context.reshape(len(values), context.shape[-1])
        longest = max(int(present.sum(-1).max()), 1)
        values, present = values[:, :longest], present[:, :longest]
        states, contexts = self.states(values, context), context.unsqueeze(1).expand(-1, longest, -1)
        frame_log_probs = self.frame(states[present], contexts[present]).log_prob(values[present])
        total = frame_log_probs.new_zeros(present.shape).masked_scatter(present, frame_log_probs).sum(-1)
        return total.view(value.shape[:-1]).expand(batch)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        state = self.start.expand(math.prod(shape), -1)
        context = self.context.expand(*shape, self.context.shape[-1]).reshape(len(state), self.context.shape[-1])
        frames: list[Tensor] = []
        for _ in range(self.length):
            frames.append(self.frame(state, context).sample())
            state = self.advance(frames[-1], state, context)
        values = torch.stack(frames, 1)
        return join_frames(values, values.new_ones(values.shape[:2])).reshape(*shape, -1)
