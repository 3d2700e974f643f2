"""Recurrent network over frames, each of which a NADE draws: section 20.10.10 in sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from ..autoregressive import AutoregressiveDistribution, Output, check_order, plain_order
from ..autoregressive import output as family
from ..autoregressive.conditionals import check_known, clamped_walk
from ..autoregressive.shared_units import SharedUnits
from ..data.sequences import split_frames, unpad
from .explicit import ExplicitModel
from .model import BINARISE, Evidence, check_imputation, check_support, data_plate
from .padded_frames import check_frames, check_width, per_frame, row_shape

CELLS = {"tanh": nn.RNN, "gru": nn.GRU}
AT_ONCE = 1 << 22
"""Numbers of unknown frames that are held in memory while they are filled in."""


class RNNNADE(ExplicitModel):
    r"""RNN-NADE (Boulanger-Lewandowski, Bengio and Vincent 2012): a NADE a frame, its biases from a recurrent network.

    $p(x) = \prod_t p(x_t \mid u_{t-1})$ with $u_t = \tanh(W_x x_t + W_u u_{t-1} + d)$ or a gated recurrence, and in frame t the
    conditionals of (20.83) with biases $b + W_b u_{t-1}$ and $c + W_c u_{t-1}$. Log-likelihoods are exact, in nats a
    sequence; all frames of all sequences go through the NADE at once.

    A row is a padded sequence (``dgm.data.pad``): T frames of D values and of a column that is 1 where the frame exists.
    Rows of any number of frames will do. Lengths are given, not modelled: padding has no log-probability.

    Args:
        visible: the number of columns of the data; ``sample`` draws sequences of so many, which is of
            ``visible / (features + 1)`` frames.
        features: values of a frame, D.
        hidden: NADE's hidden units.
        recurrent: units of the recurrent network.
        cell: ``"tanh"`` or ``"gru"``.
        output: the values' family as in ``dgm.NADE``.
        order: of a frame's values: a permutation, a number that seeds a random one, or None.

    Attributes:
        network: NADE's, whose context is the recurrent state.
        recurrence: the recurrent network; ``start`` is its state before the first frame, learned.
        frames: of a sequence that ``sample`` draws.

    Raises:
        ValueError: sizes below one, ``visible`` no multiple of ``features + 1``, an unknown cell or family, an order that is
            no permutation.

    See also:
        ``dgm.VariationalRNN``, with latent variables in every frame.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rows = dgm.data.pad([torch.ones(3, 2), torch.zeros(5, 2)])
        >>> model = dgm.RNNNADE(rows.shape[1], features=2, hidden=4, recurrent=3)
        >>> model().log_prob(rows).shape, model.sample(4, length=6).shape
        (torch.Size([2]), torch.Size([4, 18]))
    """

    def __init__(
        self,
        visible: int,
        features: int,
        hidden: int = 150,
        recurrent: int = 100,
        cell: str = "tanh",
        output: str | Sequence[str] = "binary",
        order: Sequence[int] | int | None = None,
    ) -> None:
        super().__init__()
        check_frames(visible, features, hidden=hidden, recurrent=recurrent)
        if cell not in CELLS:
            raise ValueError(f"cell got {cell!r}; expected one of {', '.join(CELLS)}")
        self.visible, self.features, self.hidden, self.recurrent = visible, features, hidden, recurrent
        self.cell, self.family, self.given_order = cell, output, plain_order(order)
        self.frames = visible // (features + 1)
        self.output = family(output, features)
        self.network = SharedUnits(
            check_order(order, features), self.output.features, self.output.parameters, hidden, context=recurrent
        )
        self.recurrence = CELLS[cell](features * self.output.features, recurrent, batch_first=True)
        self.start = nn.Parameter(torch.zeros(recurrent))

    def forward(self, length: int | None = None) -> RecurrentFrames:
        """The distribution of a sequence; draws have ``length`` frames, by default ``frames``."""
        return RecurrentFrames(self.network, self.recurrence, self.start, self.output, length or self.frames)

    def generate(self, x: Tensor | None = None, size: int | None = None, length: int | None = None) -> Tensor:
        with data_plate((size or 1) if x is None else len(x), size):
            return pyro.sample("x", self(length), obs=x)

    def sample(self, n: int, length: int | None = None) -> Tensor:
        """``n`` independent sequences, drawn frame by frame, as rows without padding.

        Args:
            n: how many.
            length: their frames; by default ``frames``.

        Raises:
            ValueError: a length below one.
        """
        if length is not None and length < 1:
            raise ValueError(f"length got {length}; expected at least one frame")
        return self(length).sample((n,))

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """The exact log-likelihood of every sequence, in nats.

        The details have ``frames``, the mean number of frames of a sequence, and ``nats_per_frame``, over all frames.

        Raises:
            ValueError: another method than ``"exact"``, or options.
        """
        return per_frame(super().evidence(x, method, **options), x, self.features)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-likelihood of validation rows, in nats a sequence and in nats a frame."""
        found = self.evidence(valid[:2000])
        return {
            "valid_log_likelihood": float(found.values.mean()),
            "valid_log_likelihood_per_frame": found.details["nats_per_frame"],
        }

    @torch.no_grad()
    def impute(self, x: Tensor, known: Tensor, sweeps: int = 500) -> Tensor:
        """Means of the unknown values given the known ones, by a particle filter over the frames.

        A particle draws what is unknown of a frame along NADE's order and weighs the probability of what is known; where
        the weights of a row are worth fewer than half its particles, these are drawn anew. The estimate is consistent in
        the number of particles. Frames long before others that are known rest on few distinct particles. Lengths are
        known: ``known`` is not read in their columns.

        Args:
            x: padded rows.
            known: booleans, ``columns`` or ``rows x columns``.
            sweeps: particles a row.

        Raises:
            ValueError: fewer than two particles; no booleans, a shape that does not fit, or a known value that is no number.
        """
        check_imputation(x, row_shape(x, self.visible), sweeps, "particles")
        rows = max(AT_ONCE // (sweeps * x.shape[1]), 1)
        parts = zip(x.split(rows), check_known(x, known).split(rows), strict=True)
        return torch.cat([self._filtered(values, seen, sweeps) for values, seen in parts])

    def _filtered(self, x: Tensor, known: Tensor, particles: int) -> Tensor:
        values, present = split_frames(x, self.features)
        given = split_frames(known.to(x), self.features)[0] > 0.5
        given = given | ~present.unsqueeze(-1)
        rows, length = len(x), int(present.sum(-1).max())
        sequence = self()
        state = sequence.start.expand(particles * rows, -1)
        itself = torch.arange(particles, device=x.device).unsqueeze(1).expand(-1, rows)
        log_w = x.new_zeros(particles, rows)
        frames: list[Tensor] = []
        parents: list[Tensor] = []
        for t in range(length):
            clamped = given[:, t].expand(particles, rows, -1).flatten(0, 1)
            here = values[:, t].expand(particles, rows, -1).flatten(0, 1)
            drawn, gain = clamped_walk(sequence.frame(state), here, clamped)
            log_w = log_w + torch.where(present[:, t], gain.view(particles, rows), 0.0)
            frames.append(drawn.view(particles, rows, -1))
            state = sequence.advance(drawn, state)
            if t == length - 1:
                break
            share = log_w.softmax(0)
            few = 1 / share.square().sum(0) < particles / 2
            again = torch.multinomial(share.T, particles, replacement=True).T
            parent = torch.where(few, again, itself)
            log_w = torch.where(few, 0.0, log_w)
            state = state.view(particles, rows, -1).gather(0, parent.unsqueeze(-1).expand(-1, -1, self.recurrent))
            state = state.flatten(0, 1)
            parents.append(parent)
        share, chosen, means = log_w.softmax(0), itself, values.clone()
        for t in reversed(range(length)):
            path = frames[t].gather(0, chosen.unsqueeze(-1).expand_as(frames[t]))
            means[:, t] = self.output.centre(path, share)
            if t:
                chosen = parents[t - 1].gather(0, chosen)
        filled = torch.where(given, values, means)
        return torch.cat([filled, present.unsqueeze(-1).to(x)], -1).flatten(-2)

    def initialise(self, x: Tensor) -> None:
        """Start at independent values that fit those of all frames."""
        with torch.no_grad():
            values, present = split_frames(x, self.features)
            self.network.bias.copy_(self.output.start(values[present]))

    def check_data(self, x: Tensor) -> None:
        check_width(x, self.visible, "RNNNADE")
        if x.shape[1] % (self.features + 1) == 0:
            binary = self.output.states == 2
            check_support(
                split_frames(x, self.features)[0].flatten(0, 1), lambda v: ~self.output.outside(v),
                f"RNNNADE with output={self.family!r}", "0 or 1" if binary else "numbers of categories, from 0",
                BINARISE if binary else "or declare other families by output=",
            )  # fmt: skip
        unpad(x, self.features)

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "features": self.features,
            "hidden": self.hidden,
            "recurrent": self.recurrent,
            "cell": self.cell,
            "output": self.family if isinstance(self.family, str) else list(self.family),
            **({} if self.given_order is None else {"order": self.given_order}),
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = cls(12, features=2, hidden=5, recurrent=3)
            frames = torch.randint(0, 2, (10, 4, 2)).float()
            present = (torch.arange(4) < torch.randint(1, 5, (10, 1))).float().unsqueeze(-1)
            return model, torch.cat([frames * present, present], -1).flatten(1)


class RecurrentFrames(TorchDistribution):
    """Padded sequences, each frame of which depends on those before it: ``event_shape`` (frames x (features + 1),).

    ``log_prob`` reads a sequence's length from the value, and sums to one over the sequences of a length; draws are of the
    full length.

    Args:
        network: gives a frame's conditionals after a state.
        recurrence: makes a state of the one before and a frame.
        start: the state before the first frame.
        output: the values' families.
        length: frames of a draw.
        batch_shape: sequences are independent.
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.real_vector

    def __init__(
        self,
        network: SharedUnits,
        recurrence: nn.RNNBase,
        start: Tensor,
        output: Output,
        length: int,
        batch_shape: Sequence[int] = (),
    ) -> None:
        self.network, self.recurrence, self.start, self.output = network, recurrence, start, output
        self.length, self.features = length, len(network.order)
        event = torch.Size([length * (self.features + 1)])
        super().__init__(torch.Size(batch_shape), event, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> RecurrentFrames:
        return RecurrentFrames(self.network, self.recurrence, self.start, self.output, self.length, batch_shape)

    def frame(self, state: Tensor) -> AutoregressiveDistribution:
        """A frame's distribution after a state of the recurrent network, ``batch_shape x recurrent``."""
        return AutoregressiveDistribution(self.network, self.output, state)

    def states(self, values: Tensor) -> Tensor:
        """$u_0$ to $u_{T-1}$, what each frame depends on: ``rows x T x D`` to ``rows x T x recurrent``."""
        start = self.start.expand(len(values), 1, -1)
        if values.shape[1] == 1:
            return start
        described = self.output.encode(values[:, :-1]).flatten(2)
        later, _ = self.recurrence(described, start.transpose(0, 1).contiguous())
        return torch.cat([start, later], 1)

    def advance(self, values: Tensor, state: Tensor) -> Tensor:
        """The state after one more frame: ``rows x D`` and ``rows x recurrent``."""
        described = self.output.encode(values).flatten(1).unsqueeze(1)
        return self.recurrence(described, state.unsqueeze(0).contiguous())[1].squeeze(0)

    def log_prob(self, value: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        values, present = split_frames(value.reshape(-1, value.shape[-1]), self.features)
        longest = max(int(present.sum(-1).max()), 1)
        values, present = values[:, :longest], present[:, :longest]
        each = self.frame(self.states(values)[present]).log_prob(values[present])
        total = each.new_zeros(present.shape).masked_scatter(present, each).sum(-1)
        return total.view(value.shape[:-1]).expand(batch)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        state = self.start.expand(math.prod(shape), -1)
        frames: list[Tensor] = []
        for _ in range(self.length):
            frames.append(self.frame(state).sample())
            state = self.advance(frames[-1], state)
        values = torch.stack(frames, 1)
        return torch.cat([values, torch.ones_like(values[..., :1])], -1).reshape(*shape, -1)
