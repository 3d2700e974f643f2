"""Recurrent network over frames, each of which a NADE draws: section 20.10.10 in sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pyro
import torch
from torch import Tensor, nn

from ...autoregressive import check_order, plain_order
from ...autoregressive import output as family
from ...autoregressive.conditionals import check_context, check_context_columns
from ...autoregressive.shared_units import SharedUnits
from ...checks import check_choice, check_count
from ...data.sequences import split_frames, unpad
from ...distributions.recurrent_frames import RecurrentFrames, check_values
from ...inference.particles import Filled, fill_in_frames
from ..shared.autoregressive import column_options
from ..shared.conditioning import check_condition, check_imputation, check_independent
from ..shared.evidence import Evidence
from ..shared.examples import seeded, sequences
from ..shared.explicit import ExplicitModel
from ..shared.frames import check_frames, check_width, per_frame, presence_columns, row_shape

_CELLS = {"tanh": nn.RNN, "gru": nn.GRU}


class RNNNADE(ExplicitModel):
    r"""RNN-NADE (Boulanger-Lewandowski, Bengio and Vincent 2012): one NADE per frame, its biases from a recurrent network.

    $p(x) = \prod_t p(x_t \mid u_{t-1})$ with $u_t = \tanh(W_x x_t + W_u u_{t-1} + d)$ or a gated recurrence, and in frame t the
    conditionals of (20.83) with biases $b + W_b u_{t-1}$ and $c + W_c u_{t-1}$. Log-likelihoods are exact, in nats per
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
        context = check_context_columns(context)
        check_frames(visible, features, hidden=hidden, recurrent=recurrent)
        check_choice("cell", cell, _CELLS)
        self.visible, self.features, self.hidden, self.recurrent = visible, features, hidden, recurrent
        self.cell, self.output, self.order = cell, output, plain_order(order)
        self.frames, self.context = visible // (features + 1), context
        self.conditionals = family(output, features)
        self.network = SharedUnits(
            check_order(order, features),
            self.conditionals.features,
            self.conditionals.parameters,
            hidden,
            context=recurrent + context,
        )
        self.recurrence = _CELLS[cell](features * self.conditionals.features + context, recurrent, batch_first=True)
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
        check_context(context, self.context)
        return RecurrentFrames(
            self.network, self.recurrence, self.start, self.conditionals, length or self.frames, context.to(self.start)
        )

    def generate(self, x: Tensor | None = None, size: int | None = None, length: int | None = None) -> Tensor:
        with self.data_plate(x, size):
            return pyro.sample("x", self(length), obs=x)

    def sample(self, n: int, length: int | None = None) -> Tensor:
        """``n`` independent sequences, drawn frame by frame, as rows without padding.

        Args:
            n: how many.
            length: their frames; by default ``frames``.

        Raises:
            ValueError: a length below one.
        """
        if length is not None:
            length = check_count("length", length, what="the frames of a sequence")
        return self(length).sample((n,))

    def given_columns(self) -> Tensor:
        """Which frames exist is given."""
        return presence_columns(self.visible, self.features)

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """The exact log-likelihood of every sequence, in nats.

        The details have ``frames``, the mean number of frames of a sequence, and ``nats_per_frame``, over all frames.

        Raises:
            ValueError: another method than ``"exact"``, or options.
        """
        return per_frame(super().evidence(x, method, **options), x, self.features)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-likelihood of validation rows, in nats per sequence and in nats per frame."""
        found = self.evidence(valid[:2000])
        return {
            "valid_log_likelihood": float(found.values.mean()),
            "valid_log_likelihood_per_frame": found.details["nats_per_frame"],
        }

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown values given the known ones, by a particle filter over the frames.

        A particle draws what is unknown of a frame along NADE's order and weighs the probability of what is known; where
        the weights of a row are worth fewer than half its particles, these are drawn anew. The estimate is consistent in
        the number of particles. Frames long before others that are known rest on few distinct particles. Lengths are
        known: ``known`` is not read in their columns.

        Args:
            x: padded rows.
            known: booleans, ``columns`` or ``rows x columns``.
            draws: particles per row.

        Raises:
            ValueError: fewer than two particles; no booleans, a shape that does not fit, or a known value that is no number.
        """
        return self._filtered(x, known, draws).rows

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draws of the unknown values given the known ones, each from a particle filter of its own (100 particles)."""
        check_independent(type(self).__name__, warmup=warmup, thinning=thinning)
        check_condition(x, known, draws)
        x = x.nan_to_num()  # what is unknown may be NaN
        return torch.stack([self._filtered(x, known, 100, draw=True).rows for _ in range(draws)])

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The same, with the smallest effective number of particles that a row had before a frame's were drawn anew."""
        found = self._filtered(x, known, draws)
        smallest = float(found.effective_sample_size.min())
        return found.rows, {"method": "particle filter", "smallest_effective_sample_size": smallest}

    def conditional_log_prob(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, Tensor]:
        r"""$\log p(x_a \mid x_b) = \log p(x) - \log \hat p(x_b)$ of every row, in nats, and its effective sample size.

        $\hat p(x_b)$ is the particle filter's unbiased estimate, so the figure is too large on average; the effective sample
        size is the smallest that a row's particles had.

        Args:
            x: padded rows.
            known: booleans, as in ``impute``.
            draws: particles per row.

        Raises:
            ValueError: as ``impute``.
        """
        found = self._filtered(x, known, draws)
        with torch.no_grad():
            return self().log_prob(x) - found.log_known, found.effective_sample_size

    def _filtered(self, x: Tensor, known: Tensor, particles: int, draw: bool = False) -> Filled:
        check_imputation(x, known, row_shape(x, self.visible), particles, "particles")
        return fill_in_frames(self(), x, known.expand(x.shape), particles, draw)

    def initialise(self, x: Tensor) -> None:
        """Start at independent values that fit those of all frames."""
        with torch.no_grad():
            values, present = split_frames(x, self.features)
            self.network.bias.copy_(self.conditionals.start(values[present]))

    def check_data(self, x: Tensor) -> None:
        check_width(x, self.visible, "RNNNADE")
        if x.shape[1] % (self.features + 1) == 0:
            check_values(self.conditionals, split_frames(x, self.features)[0], "RNNNADE")
        unpad(x, self.features)

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            "features": self.features,
            "hidden": self.hidden,
            "recurrent": self.recurrent,
            "cell": self.cell,
            **column_options(self.output, self.order, self.context),
        }

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(12, features=2, hidden=5, recurrent=3), sequences)
