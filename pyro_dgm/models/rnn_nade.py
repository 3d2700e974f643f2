"""Recurrent network over frames, each of which a NADE draws: section 20.10.10 in sequences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from .. import processes
from ..autoregressive import AutoregressiveDistribution, Output, check_order, plain_order
from ..autoregressive import output as family
from ..autoregressive.conditionals import check_known, clamped_walk
from ..autoregressive.shared_units import SharedUnits
from ..data.sequences import checked_frames, split_frames, unpad
from ..objectives.per_datum import log_mean
from .autoregressive import advice
from .conditioning import check_condition, check_imputation
from .explicit import ExplicitModel
from .model import Evidence, RowSupport, data_plate
from .padded_frames import check_frames, check_width, join, per_frame, row_shape

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
        context: columns of a context that the recurrent network and all frames see; 0 for none.

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
        context: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(context, int) or isinstance(context, bool) or context < 0:
            raise ValueError(f"context got {context!r}; expected its number of columns, 0 for none")
        check_frames(visible, features, hidden=hidden, recurrent=recurrent)
        if cell not in CELLS:
            raise ValueError(f"cell got {cell!r}; expected one of {', '.join(CELLS)}")
        self.visible, self.features, self.hidden, self.recurrent = visible, features, hidden, recurrent
        self.cell, self.family, self.given_order = cell, output, plain_order(order)
        self.frames, self.context = visible // (features + 1), context
        self.output = family(output, features)
        self.network = SharedUnits(
            check_order(order, features),
            self.output.features,
            self.output.parameters,
            hidden,
            context=recurrent + context,
        )
        self.recurrence = CELLS[cell](features * self.output.features + context, recurrent, batch_first=True)
        self.start = nn.Parameter(torch.zeros(recurrent))

    def forward(self, length: int | None = None, context: Tensor | None = None) -> RecurrentFrames:
        """The distribution of a sequence, or ``batch_shape`` of them.

        Args:
            length: frames of a draw, by default ``frames``.
            context: ``batch_shape x C``, of a model that was made with ``context=C``; without it zeros.

        Raises:
            ValueError: a context of another width, or one that the model was not made for.
        """
        if context is None:
            context = self.start.new_zeros(self.context)
        if context.shape[-1:] != (self.context,):
            made = f"{self.context} columns of context" if self.context else "no context"
            raise ValueError(
                f"context got shape {tuple(context.shape)}, but the model was made with {made}; say context= when making it"
            )
        return RecurrentFrames(
            self.network, self.recurrence, self.start, self.output, length or self.frames, context.to(self.start)
        )

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
        return self._filtered(x, known, sweeps)[0]

    def condition(self, x: Tensor, known: Tensor, draws: int = 100, warmup: int = 500, thinning: int = 1) -> Tensor:
        """Draws of the unknown values given the known ones, each from a particle filter of its own (100 particles)."""
        check_condition(x, known, draws)
        chain = self.conditional_chain(x, known, 0)
        return torch.stack(list(itertools.islice(chain, draws)))

    def conditional_chain(self, x: Tensor, known: Tensor, warmup: int) -> Iterator[Tensor]:
        """Sequences of particle filters of their own, 100 particles each, one after another."""
        while True:
            yield self._filtered(x, known, 100, draw=True)[0]

    def impute_with_details(self, x: Tensor, known: Tensor, sweeps: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The same, with the smallest effective number of particles that a row had before a frame's were drawn anew."""
        filled, _, worth = self._filtered(x, known, sweeps)
        return filled, {"method": "particle filter", "smallest_effective_sample_size": float(worth.min())}

    def conditional_log_prob(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, Tensor]:
        r"""$\log p(x_a \mid x_b) = \log p(x) - \log \hat p(x_b)$ of every row, in nats, and its effective sample size.

        $\hat p(x_b)$ is the particle filter's unbiased estimate, so the figure is too large on average; the effective sample
        size is the smallest that a row's particles had.

        Args:
            x: padded rows.
            known: booleans, as in ``impute``.
            draws: particles a row.

        Raises:
            ValueError: as ``impute``.
        """
        _, log_known, worth = self._filtered(x, known, draws)
        with torch.no_grad():
            return self().log_prob(x) - log_known, worth

    @torch.no_grad()
    def _filtered(self, x: Tensor, known: Tensor, particles: int, draw: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Rows with means (or a draw) for what is unknown, the estimate of log p(x_b), the smallest effective sample size."""
        check_imputation(x, known, row_shape(x, self.visible), particles, "particles")
        rows = max(AT_ONCE // (particles * x.shape[1]), 1)
        parts = zip(x.split(rows), check_known(x, known).split(rows), strict=True)
        with processes.one_stream():
            found = [self._filtered_at_once(values, seen, particles, draw) for values, seen in parts]
        filled, log_known, worth = (torch.cat(part) for part in zip(*found, strict=True))
        return filled, log_known, worth

    def _filtered_at_once(self, x: Tensor, known: Tensor, particles: int, draw: bool) -> tuple[Tensor, Tensor, Tensor]:
        values, present = checked_frames(x, self.features)
        given = split_frames(known.to(x), self.features)[0] > 0.5
        given = given | ~present.unsqueeze(-1)
        values = torch.where(given, values, 0.0)
        check_values(self.output, values, "RNNNADE")
        rows, length = len(x), int(present.sum(-1).max())
        sequence = self()
        state = sequence.start.expand(particles * rows, -1)
        context = sequence.context.expand(len(state), -1)
        itself = torch.arange(particles, device=x.device).unsqueeze(1).expand(-1, rows)
        log_w, log_known = x.new_zeros(particles, rows), x.new_zeros(rows)
        worth = x.new_full((rows,), float(particles))
        frames: list[Tensor] = []
        parents: list[Tensor] = []
        for t in range(length):
            clamped = given[:, t].expand(particles, rows, -1).flatten(0, 1)
            here = values[:, t].expand(particles, rows, -1).flatten(0, 1)
            drawn, gain = clamped_walk(sequence.frame(state, context), here, clamped)
            log_w = log_w + torch.where(present[:, t], gain.view(particles, rows), 0.0)
            frames.append(drawn.view(particles, rows, -1))
            state = sequence.advance(drawn, state, context)
            share = log_w.softmax(0)
            effective = 1 / share.square().sum(0)
            worth = torch.minimum(worth, effective)
            if t == length - 1:
                break
            few = effective < particles / 2
            again = torch.multinomial(share.T, particles, replacement=True).T
            parent = torch.where(few, again, itself)
            log_known = log_known + torch.where(few, log_mean(log_w), 0.0)
            log_w = torch.where(few, 0.0, log_w)
            state = state.view(particles, rows, -1).gather(0, parent.unsqueeze(-1).expand(-1, -1, self.recurrent))
            state = state.flatten(0, 1)
            parents.append(parent)
        share, chosen, means = log_w.softmax(0), itself, values.clone()
        if draw:
            chosen = torch.multinomial(share.T, 1).T
            share = torch.ones_like(share[:1])
        for t in reversed(range(length)):
            path = frames[t].gather(0, chosen.unsqueeze(-1).expand(-1, -1, frames[t].shape[-1]))
            means[:, t] = self.output.centre(path, share)
            if t:
                chosen = parents[t - 1].gather(0, chosen)
        filled = torch.where(given, values, means)
        log_known = log_known + log_mean(log_w)
        return torch.cat([filled, present.unsqueeze(-1).to(x)], -1).flatten(-2), log_known, worth

    def initialise(self, x: Tensor) -> None:
        """Start at independent values that fit those of all frames."""
        with torch.no_grad():
            values, present = split_frames(x, self.features)
            self.network.bias.copy_(self.output.start(values[present]))

    def check_data(self, x: Tensor) -> None:
        check_width(x, self.visible, "RNNNADE")
        if x.shape[1] % (self.features + 1) == 0:
            check_values(self.output, split_frames(x, self.features)[0], "RNNNADE")
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
            **({"context": self.context} if self.context else {}),
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = cls(12, features=2, hidden=5, recurrent=3)
            frames = torch.randint(0, 2, (10, 4, 2)).float()
            present = (torch.arange(4) < torch.randint(1, 5, (10, 1))).float().unsqueeze(-1)
            return model, torch.cat([frames * present, present], -1).flatten(1)


def check_values(output: Output, values: Tensor, name: str) -> None:
    """Refuse frames, ``sequences x T x D``, that are no values of their columns."""
    outside = output.outside(values.flatten(0, 1)).view(values.shape).flatten(1).any(1)
    if bool(outside.any()):
        sequence = int(outside.nonzero()[0])
        fault = str(output.fault(values[sequence])).replace(" in row ", " in frame ")
        raise ValueError(f"{name} got, in sequence {sequence}, {fault}. {advice(output, values)}")


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
        context: ``batch_shape x C``, what every frame also depends on; C may be 0.
    """

    arg_constraints: dict[str, Any] = {}

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        return RowSupport(self.output.support)

    def __init__(
        self,
        network: SharedUnits,
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
        """A frame's distribution after a state of the recurrent network, ``batch_shape x recurrent``."""
        return AutoregressiveDistribution(self.network, self.output, join(state, context))

    def states(self, values: Tensor, context: Tensor) -> Tensor:
        """$u_0$ to $u_{T-1}$, what each frame depends on: ``rows x T x D`` and ``rows x C`` to ``rows x T x recurrent``."""
        start = self.start.expand(len(values), 1, -1)
        if values.shape[1] == 1:
            return start
        described = join(self.output.encode(values[:, :-1]).flatten(2), context.unsqueeze(1))
        later, _ = self.recurrence(described, start.transpose(0, 1).contiguous())
        return torch.cat([start, later], 1)

    def advance(self, values: Tensor, state: Tensor, context: Tensor) -> Tensor:
        """The state after one more frame: ``rows x D``, ``rows x recurrent`` and ``rows x C``."""
        described = join(self.output.encode(values).flatten(1), context).unsqueeze(1)
        return self.recurrence(described, state.unsqueeze(0).contiguous())[1].squeeze(0)

    def log_prob(self, value: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        value = value if value.is_floating_point() else value.to(self.start.dtype)
        context = self.context
        if context.shape[-1]:
            value = value.expand(*batch, value.shape[-1])
            context = context.expand(*batch, context.shape[-1])
        else:  # rows that all are of one law are scored once
            context = context.new_zeros(*value.shape[:-1], 0)
        values, present = checked_frames(value.reshape(-1, value.shape[-1]), self.features)
        check_values(self.output, values, "RecurrentFrames")
        context = context.reshape(len(values), context.shape[-1])
        longest = max(int(present.sum(-1).max()), 1)
        values, present = values[:, :longest], present[:, :longest]
        states, contexts = self.states(values, context), context.unsqueeze(1).expand(-1, longest, -1)
        each = self.frame(states[present], contexts[present]).log_prob(values[present])
        total = each.new_zeros(present.shape).masked_scatter(present, each).sum(-1)
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
        return torch.cat([values, torch.ones_like(values[..., :1])], -1).reshape(*shape, -1)
