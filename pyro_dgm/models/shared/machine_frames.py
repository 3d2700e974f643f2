"""The base of sequence models whose frames are Boltzmann machines, with parameters from the frames before."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import pyro
import torch
from torch import Tensor, nn

from ...annealing import log_partition
from ...checks import check_choice, check_count
from ...data.sequences import checked_frames, join_frames, split_frames, unpad
from ...distributions.drawn_frames import DrawnFrames
from ...distributions.packed_frames import PackedFrames
from ...energy import BoltzmannDistribution, LogPartition, Machine
from ...energy.mean_field import mean_field
from ...objectives import CD, ExactNegativePhase
from ...objectives.objective import Objective
from ...objectives.phases.objective import NegativePhaseObjective
from ...signatures import Option
from .abilities import check_options, keywords
from .boltzmann import visible_given
from .evidence import Evidence, between
from .frames import check_width, per_frame, presence_columns
from .many_machines import at_once, log_partitions, summed
from .model import ProbabilisticModel
from .rows import PROGRESS_ROWS, check_binary


class MachineFramesModel(ProbabilisticModel):
    r"""A model of padded sequences, $p(x) = \prod_t e^{-F_t(x_t)} / Z_t$, where every frame has a machine of its own.

    What the machine of a frame depends on is a state, a function of the earlier frames: all machines of all sequences are one
    batch. Lengths are given, not modelled.

    Attributes:
        visible: the number of columns of the data.
        features: the number of values of a frame.
        frames: the number of frames of a sequence that ``sample`` draws.
        visible_bias: the visible bias of every machine before what it owes to earlier frames.
    """

    visible: int
    features: int
    frames: int
    visible_bias: nn.Parameter

    @abstractmethod
    def start(self, rows: int) -> Tensor:
        """The states before the first frames: ``rows x state``."""

    @abstractmethod
    def advance(self, values: Tensor, state: Tensor) -> Tensor:
        """The states after one more frame, from ``rows x features`` and ``rows x state``."""

    @abstractmethod
    def forward(self, state: Tensor | None = None) -> BoltzmannDistribution:
        """The distribution of a frame after a state, ``batch_shape x state``; by default of a first frame."""

    def states(self, values: Tensor) -> Tensor:
        """The states before each frame: ``rows x T x features`` to ``rows x T x state``."""
        states = [self.start(len(values))]
        for t in range(values.shape[1] - 1):
            states.append(self.advance(values[:, t], states[-1]))
        return torch.stack(states, 1)

    def _frames(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The states and values of all frames that exist, and booleans that say which do."""
        values, present = checked_frames(x, self.features)
        values = values[:, : int(present.sum(-1).max())]
        exists = present[:, : values.shape[1]]
        return self.states(values)[exists], values[exists], present

    def generate(self, x: Tensor | None = None, size: int | None = None, length: int | None = None) -> Tensor:
        if x is None:
            columns = (length or self.frames) * (self.features + 1)
            drawn = DrawnFrames(lambda n: self.sample(n, length), self._rows, columns, (size or 1,))
            with self.data_plate(x, size):
                return pyro.sample("x", drawn)
        rows = self._rows(x)
        with self.data_plate(x, size):
            return pyro.sample("x", rows, obs=x)

    def _rows(self, x: Tensor) -> PackedFrames:
        """The distribution of rows whose frames have the machines that those of ``x`` have."""
        states, _, present = self._frames(x)
        return PackedFrames(self(states), present)

    def infer(self, *args: Any, **kwargs: Any) -> Any:
        """The guide is empty: there are no latent sites."""

    @torch.no_grad()
    def extend(self, x: Tensor, length: int, sweeps: int = 100) -> Tensor:
        """Draw frames that follow those of sequences, each by Gibbs chains: ``rows x length x features``.

        Args:
            x: padded sequences, of any lengths.
            length: the number of frames to draw.
            sweeps: the length of a chain; small machines are drawn exactly.
        """
        length, sweeps = check_count("length", length), check_count("sweeps", sweeps)
        self.check_data(x)
        values, present = split_frames(x, self.features)
        states = self.states(values)
        last = self.advance(values[:, -1], states[:, -1]).unsqueeze(1)
        after = torch.cat([states, last], 1)[torch.arange(len(x)), present.sum(-1)]
        return self._drawn(after, length, sweeps)

    def _drawn(self, state: Tensor, length: int, sweeps: int) -> Tensor:
        frames = []
        for _ in range(length):
            frames.append(self(state).sample((), sweeps))
            state = self.advance(frames[-1], state)
        return torch.stack(frames, 1)

    @torch.no_grad()
    def sample(self, n: int, length: int | None = None, sweeps: int = 100) -> Tensor:
        """Draw ``n`` independent sequences, frame by frame, as rows without padding.

        Args:
            n: the number of sequences.
            length: their number of frames; by default ``frames``.
            sweeps: Gibbs sweeps per frame; small machines are drawn exactly.

        Raises:
            ValueError: a number below one.
        """
        length = self.frames if length is None else check_count("length", length, what="the frames of a sequence")
        drawn = self._drawn(self.start(check_count("n", n)), length, check_count("sweeps", sweeps))
        return torch.cat([drawn, drawn.new_ones(*drawn.shape[:-1], 1)], -1).flatten(1)

    def objective(
        self,
        kind: Literal["cd", "exact"] = "cd",
        k: int | tuple[int, int] | None = None,
    ) -> Objective:
        """The likelihood's gradient with a negative phase in every frame, and back-propagation through time.

        Persistent chains would need one for every frame of every sequence.

        Args:
            kind: ``"cd"``, or ``"exact"`` for small machines.
            k: of cd, sweeps of the chains per gradient step, 1 by default, or a pair (``dgm.CD``).

        Raises:
            ValueError: an unknown kind, or an option of another kind.
        """
        check_choice("kind", kind, ("cd", "exact"))
        if kind == "exact":
            if k is not None:
                raise ValueError(f"k got {k!r}, which belongs to kind='cd'; leave it out")
            return NegativePhaseObjective(ExactNegativePhase())
        return NegativePhaseObjective(CD(1 if k is None else k))

    def given_columns(self) -> Tensor:
        """The columns that say which frames exist."""
        return presence_columns(self.visible, self.features)

    def evidence_given(self) -> str:
        return "the lengths"

    def evidence_arguments(self, method: str | None = None) -> dict[str, Option]:
        return keywords(log_partition)

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        r"""$\sum_t -F_t(x_t) - \log Z_t$ of every sequence, each log Z exact or by annealing from the machine's own biases.

        The details have ``frames``, the mean number of frames of a sequence, and ``nats_per_frame``, over all frames.

        Args:
            x: padded rows.
            method: ``"exact"``, ``"ais"`` or ``"bridge"``. By default exact where the states of all frames can be listed and
                no option asks for annealing, else ``"ais"``.
            options: those of ``dgm.log_partition``.
        """
        check_options(self, options, self.evidence_arguments(method))
        log_z = self.log_partition(x, method, **options)
        with torch.no_grad():
            states, values, present = self._frames(x)
            size = at_once(self(states[:1]), 1)
            pairs = zip(states.split(size), values.split(size), strict=True)
            free = torch.cat([self(s).free_energy(v) for s, v in pairs])
            totals = free.new_zeros(len(x)).index_add_(0, _rows_of(present), -free)
        return per_frame(between(totals - log_z.value, log_z), x, self.features)

    def log_partition(self, rows: Tensor, method: str | None = None, **options: Any) -> LogPartition:
        """The sum of log Z over every sequence's frames, in nats: ``rows``."""
        with torch.no_grad():
            states, _, present = self._frames(rows)
        return summed(log_partitions(self, states, method, **options), _rows_of(present), len(rows))

    @torch.no_grad()
    def hidden_features(self, x: Tensor) -> Tensor:
        r"""$E[h_t \mid x_1 \ldots x_t]$ of every frame, frame after frame, zero after a sequence's end: ``rows x (T hidden)``."""
        return self._placed(self._with_hidden_means(x)[2]["hidden"][0], x).flatten(1)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of every frame given the earlier frames and the means of its hidden units, as padded rows."""
        machine, _, hidden = self._with_hidden_means(x)
        block = machine.graph.block("visible")
        means = machine.graph.layers["visible"].mean(*machine.fields(block, hidden))[0]
        return join_frames(self._placed(means, x), split_frames(x, self.features)[1])

    def _with_hidden_means(self, x: Tensor) -> tuple[Machine, Tensor, Mapping[str, tuple[Tensor, ...]]]:
        """The machine of all frames that exist, their values, and the hidden units' means given them."""
        states, values, _ = self._frames(x)
        machine = self(states).machine
        return machine, values, mean_field(machine, {"visible": values}, 1).statistics

    def _placed(self, found: Tensor, x: Tensor) -> Tensor:
        """Figures of the frames that exist, ``frames x K``, in their places among zeros: ``rows x T x K``."""
        present = split_frames(x, self.features)[1]
        placed = found.new_zeros(*present.shape, found.shape[-1])
        placed[present] = found
        return placed

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-probability of validation frames given the hidden units' means: a reconstruction, no likelihood."""
        with torch.no_grad():
            machine, values, hidden = self._with_hidden_means(valid[:PROGRESS_ROWS])
            return {"valid_reconstruction_per_frame": float(visible_given(machine, values, hidden).mean())}

    def initialise(self, x: Tensor) -> None:
        """Set b so that the bits of a frame have the data's means, unless it was set already."""
        if not bool(self.visible_bias.detach().any()):
            with torch.no_grad():
                self.visible_bias.copy_(torch.logit(self._frames(x)[1].mean(0), eps=1e-3))

    def check_data(self, x: Tensor) -> None:
        name = type(self).__name__
        check_width(x, self.visible, name)
        check_binary(x, name)
        unpad(x, self.features)


def _rows_of(present: Tensor) -> Tensor:
    """The row of every frame that exists."""
    return present.nonzero()[:, 0]
