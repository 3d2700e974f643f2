"""A recurrent network over frames, each drawn by a NADE: section 20.10.10 for sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pyro
import torch
from torch import Tensor, nn

from ...autoregressive import check_order, plain_order
from ...autoregressive import output as family
from ...autoregressive.conditionals import check_context, check_context_columns
from ...autoregressive.outputs import in_own_units
from ...autoregressive.separate import Separate
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
from ..shared.rows import ROWS_AT_ONCE

_CELLS = {"tanh": nn.RNN, "gru": nn.GRU}

_PARTICLES = 100
"""Particles of the filter behind a draw of ``condition``."""


class RNNNADE(ExplicitModel):
    r"""RNN-NADE (Boulanger-Lewandowski, Bengio and Vincent 2012): one NADE per frame, with biases from a recurrent network.

    $p(x) = \prod_t p(x_t \mid u_{t-1})$ with $u_t = \tanh(W_x x_t + W_u u_{t-1} + d)$ or a gated recurrence, and in frame t the
    conditionals of (20.83) with biases $b + W_b u_{t-1}$ and $c + W_c u_{t-1}$. Log-likelihoods are exact, in nats per
    sequence; all frames of all sequences go through the NADE at once.

    A row is a padded sequence (``dgm.data.pad``): T frames of D values and of a column that is 1 where the frame exists.
    Rows may have any number of frames. Lengths are given, not modelled: padding has no log-probability.

    Args:
        visible: the number of columns of the data; ``sample`` draws sequences of as many columns, which is
            ``visible / (features + 1)`` frames.
        features: the number of values of a frame, D.
        hidden: the number of hidden units of the NADE; with 0 the values of a frame are independent given the recurrent state,
            as in a plain recurrent network.
        recurrent: the number of units of the recurrent network.
        cell: ``"tanh"`` or ``"gru"``.
        output: the values' family as in ``dgm.NADE``.
        order: the order of a frame's values: a permutation, a number that seeds a random one, or None.
        context: columns of a context that the recurrent network and all frames see; 0 for none.

    Attributes:
        network: the network of the NADE, whose context is the recurrent state.
        recurrence: the recurrent network; ``start`` is its state before the first frame, learned.
        frames: the number of frames of a sequence that ``sample`` draws.

    Raises:
        ValueError: sizes below one (``hidden`` may be zero), ``visible`` no multiple of ``features + 1``, an unknown cell or
            family, an order that is no permutation.

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
        check_frames(visible, features, recurrent=recurrent)
        hidden = check_count("hidden", hidden, 0, "the number of hidden units of a frame's NADE")
        check_choice("cell", cell, _CELLS)
        self.visible, self.features, self.hidden, self.recurrent = visible, features, hidden, recurrent
        self.cell, self.output, self.order = cell, output, plain_order(order)
        self.frames, self.context = visible // (features + 1), context
        self.conditionals = in_own_units(family(output, features), features)
        self.scaling = self.conditionals.scaling
        columns, numbers, seen = check_order(order, features), self.conditionals.parameters, recurrent + context
        self.network: SharedUnits | Separate = (
            SharedUnits(columns, self.conditionals.features, numbers, hidden, context=seen)
            if hidden
            else Separate(columns, numbers, context=seen)
        )
        self.recurrence = _CELLS[cell](features * self.conditionals.features + context, recurrent, batch_first=True)
        self.start = nn.Parameter(torch.zeros(recurrent))

    def forward(self, length: int | None = None, context: Tensor | None = None) -> RecurrentFrames:
        """The distribution of a sequence, or ``batch_shape`` of them.

        Args:
            length: the number of frames of a draw, by default ``frames``.
            context: ``batch_shape x C``, for a model made with ``context=C``; by default zeros.

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
        """Draw ``n`` independent sequences, frame by frame, as rows without padding.

        Args:
            n: the number of sequences.
            length: their number of frames; by default ``frames``.

        Raises:
            ValueError: a length below one.
        """
        if length is not None:
            length = check_count("length", length, what="the frames of a sequence")
        return self(length).sample((n,))

    def given_columns(self) -> Tensor:
        """The columns that say which frames exist."""
        return presence_columns(self.visible, self.features)

    def evidence_given(self) -> str:
        return "the lengths"

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """The exact log-likelihood of every sequence, in nats.

        The details have ``frames``, the mean number of frames of a sequence, and ``nats_per_frame``, over all frames.

        Raises:
            ValueError: another method than ``"exact"``, or options.
        """
        return per_frame(super().evidence(x, method, **options), x, self.features)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-likelihood of validation rows, in nats per sequence and in nats per frame."""
        evidence = self.evidence(valid[:ROWS_AT_ONCE])
        return {
            "valid_log_likelihood": float(evidence.values.mean()),
            "valid_log_likelihood_per_frame": evidence.details["nats_per_frame"],
        }

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown values given the known ones, by a particle filter over the frames.

        A particle draws the unknown values of a frame along NADE's order, and its weight is the probability of the known
        values. Where the weights of a row are worth fewer than half its particles, these are resampled. The estimate is
        consistent in the number of particles. The draws of frames long before known ones come from few distinct particles.
        Lengths are known: ``known`` is not read in their columns.

        Args:
            x: padded rows.
            known: booleans, ``columns`` or ``rows x columns``.
            draws: particles per row.

        Raises:
            ValueError: fewer than two particles; ``known`` without booleans, a shape that does not fit, or a known value
                that is not finite.
        """
        return self._filtered(x, known, draws).rows

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draw the unknown values given the known ones, each draw from a separate particle filter of 100 particles."""
        return self.condition_with_details(x, known, draws, warmup, thinning)[0]

    def condition_with_details(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``condition``, and the smallest effective number of particles before a resampling."""
        check_independent(type(self).__name__, warmup=warmup, thinning=thinning)
        check_condition(x, known, draws)
        x = x.nan_to_num()  # unknown values may be NaN
        filled = [self._filtered(x, known, _PARTICLES, draw=True) for _ in range(draws)]
        fewest = min(float(one.effective_sample_size.min()) for one in filled)
        details = {
            "method": "particle filters",
            "particles": _PARTICLES,
            "smallest_effective_number_of_particles": fewest,
        }
        return torch.stack([one.rows for one in filled]), details

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``impute``, and the smallest effective number of particles that a row had before resampling."""
        filled = self._filtered(x, known, draws)
        smallest = float(filled.effective_sample_size.min())
        return filled.rows, {"method": "particle filter", "smallest_effective_sample_size": smallest}

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
        filled = self._filtered(x, known, draws)
        with torch.no_grad():
            return self().log_prob(x) - filled.log_known, filled.effective_sample_size

    def _filtered(self, x: Tensor, known: Tensor, particles: int, draw: bool = False) -> Filled:
        check_imputation(x, known, row_shape(x, self.visible), particles, "particles")
        return fill_in_frames(self(), x, known.expand(x.shape), particles, draw)

    def initialise(self, x: Tensor) -> None:
        """Start at independent values that fit those of all frames."""
        with torch.no_grad():
            values, present = split_frames(x, self.features)
            self.conditionals.standardise(values[present])
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
