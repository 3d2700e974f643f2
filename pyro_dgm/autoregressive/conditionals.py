"""The distribution of unknown columns given the known ones, under an autoregressive distribution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import processes
from ..checks import check_choice, check_count
from .distribution import AutoregressiveDistribution
from .ensemble import OrderEnsemble
from .outputs import DECLARE, Output

Distribution = AutoregressiveDistribution | OrderEnsemble

LARGEST = 1 << 12
"""The most joint values of the unknown columns that are listed."""


@dataclass(frozen=True)
class Completion:
    r"""Weighted draws of rows whose unknown columns were filled in.

    Attributes:
        draws: ``K x rows x D``; the known columns are unchanged.
        log_weights: ``K x rows``; the mean of their exponentials is $p(x_b)$, or an unbiased estimate of it.
        method: ``"order"`` (the known columns come first: independent exact draws, of equal weight unless several orders
            are averaged), ``"enumeration"`` (all values of the unknown columns, exact) or ``"importance"``.
        output: the columns' families.
    """

    draws: Tensor
    log_weights: Tensor
    method: str
    output: Output

    @property
    def exact(self) -> bool:
        """True where ``log_known`` is exact and not an estimate."""
        return self.method != "importance"

    @property
    def log_known(self) -> Tensor:
        r"""$\log p(x_b)$ of every row, in nats; by importance the log of an unbiased estimate, too small on average."""
        return self.log_weights.logsumexp(0) - math.log(len(self.log_weights))

    @property
    def shares(self) -> Tensor:
        """The draws' weights, normalised to sum to one in every row: ``K x rows``."""
        return self.log_weights.softmax(0)

    @property
    def effective_sample_size(self) -> Tensor:
        r"""$1 / \sum_k \tilde w_k^2$ of every row: the number of equally weighted draws that are worth as much."""
        shares = self.log_weights.double().softmax(0)
        return (1 / shares.square().sum(0)).to(self.log_weights.dtype)

    @property
    def mean(self) -> Tensor:
        """The means of the unknown columns (the most probable category), ``rows x D``; known ones are unchanged."""
        same = (self.draws == self.draws[0]).all(0)  # the mean of equal draws would differ by rounding
        return torch.where(same, self.draws[0], self.output.centre(self.draws, self.shares))

    def resampled(self, n: int) -> Tensor:
        """Draw ``n`` completions of equal weight for every row, with probabilities ``shares``: ``n x rows x D``."""
        with processes.one_stream():
            chosen = torch.multinomial(self.shares.T, n, replacement=True).T
        return self.draws[chosen, torch.arange(self.draws.shape[1], device=self.draws.device)]

    @staticmethod
    def joined(parts: Sequence[tuple[Tensor, Completion]]) -> Completion:
        """Join completions of parts of the rows into one, by the rows' numbers.

        Raises:
            ValueError: parts with different numbers of draws.
        """
        if len(parts) == 1:
            return parts[0][1]
        completions = [completion for _, completion in parts]
        counts = sorted({len(completion.draws) for completion in completions})
        if len(counts) > 1:
            raise ValueError(
                f"rows with unlike known columns have {counts} draws; complete them "
                "apart, or use method='order' or 'importance'"
            )
        original_order = torch.cat([rows for rows, _ in parts]).argsort()
        return Completion(
            torch.cat([completion.draws for completion in completions], 1)[:, original_order],
            torch.cat([completion.log_weights for completion in completions], 1)[:, original_order],
            ", ".join(sorted({completion.method for completion in completions})),
            completions[0].output,
        )


def check_known(x: Tensor, known: Tensor) -> Tensor:
    """Check which entries are known, and return it as booleans, ``rows x D``.

    Raises:
        ValueError: no booleans, a shape that does not fit, or a known entry that is no number.
    """
    if not isinstance(known, Tensor) or known.dtype != torch.bool or known.shape not in (x.shape, x.shape[1:]):
        got = f"{known.dtype} of shape {tuple(known.shape)}" if isinstance(known, Tensor) else repr(known)
        raise ValueError(f"known got {got}; expected booleans, {tuple(x.shape[1:])} or {tuple(x.shape)}")
    rows = known.expand(x.shape)
    bad = (rows & ~x.isfinite()).any(-1)
    if bool(bad.any()):
        raise ValueError(
            f"row {int(bad.nonzero()[0])} has a known entry that is NaN or infinite; say known=~x.isnan() to have it imputed"
        )
    return rows


@torch.no_grad()
def complete(dist: Distribution, x: Tensor, known: Tensor, draws: int = 500, method: str | None = None) -> Completion:
    r"""Fill in the unknown columns $x_a$ given the known ones $x_b$.

    Where every known column comes before every unknown one in the order, following the order draws exactly from
    $p(x_a \mid x_b)$. Otherwise, if the unknown columns have at most 2^12 joint values, all are listed. Else the known
    columns are clamped while the order is followed, and a draw's weight is $\prod_{i \in b} p(x_i \mid x_{<i})$ (likelihood
    weighting). In a mixture of orders every member makes equally many draws. Several processes share the work, and each
    returns all draws.

    Args:
        dist: without a batch shape, or with one context per row.
        x: ``rows x D``; unknown columns may hold anything.
        known: booleans, ``D`` or ``rows x D``.
        draws: K, rounded up to a multiple of the orders; ``"enumeration"`` lists all values instead.
        method: ``"order"``, ``"enumeration"`` or ``"importance"``; by default the first of them that works.

    Raises:
        ValueError: a distribution of another batch shape, shapes that do not fit, a known value that its column cannot
            have, draws below one, or a method that cannot be used here, with the reason.
    """
    if dist.batch_shape not in (torch.Size(), x.shape[:1]):
        raise ValueError(
            f"complete got a distribution of batch shape {tuple(dist.batch_shape)} for {len(x)} rows; expected none, or one "
            "context per row"
        )
    draws = check_count("draws", draws)
    rows, x = check_known(x, known), dist.members[0].floating(x)
    if fault := dist.output.fault(x, rows):
        raise ValueError(f"complete got {fault}. {DECLARE}")
    x = torch.where(rows, x, 0.0)  # an unknown column may hold NaN
    method = method or _choose(dist, rows)
    if method == "order" and not _in_order(dist, rows):
        raise ValueError(
            "method='order' needs the known columns before the unknown ones in the order; use 'importance'"
        )
    if method == "enumeration":
        if not bool((rows == rows[0]).all()):
            raise ValueError("method='enumeration' needs the same known columns in every row; use 'importance'")
        return _listed(dist, x, rows[0])
    check_choice("method", method, ("order", "enumeration", "importance"))
    draws_per_member = math.ceil(draws / len(dist.members))
    with processes.drawing(draws_per_member) as mine:
        by_member = [map(processes.gather, _weighted(member, x, rows, mine)) for member in dist.members]
        filled, log_weights = (torch.cat(parts) for parts in zip(*by_member, strict=True))
    return Completion(filled, log_weights, method, dist.output)


def _choose(dist: Distribution, rows: Tensor) -> str:
    if _in_order(dist, rows):
        return "order"
    same = bool((rows == rows[0]).all())
    return "enumeration" if same and _count(dist, rows[0]) <= LARGEST else "importance"


def _in_order(dist: Distribution, rows: Tensor) -> bool:
    ordered = [rows[:, member.network.order] for member in dist.members]
    return all(bool((known[:, 1:] <= known[:, :-1]).all()) for known in ordered)


def _count(dist: Distribution, known: Tensor) -> float:
    states = [dist.output.column(i).states for i in (~known).nonzero().flatten().tolist()]
    return math.inf if None in states else math.prod(s for s in states if s is not None)


def _listed(dist: Distribution, x: Tensor, known: Tensor) -> Completion:
    free = (~known).nonzero().flatten()
    values = [dist.output.values(i) for i in free.tolist()]
    if _count(dist, known) > LARGEST:
        raise ValueError(
            f"{len(free)} unknown columns have {_count(dist, known):.3g} joint values; at most {LARGEST} are listed. "
            "Use method='importance'"
        )
    grid = x.new_tensor(list(itertools.product(*values)))
    filled = x.expand(len(grid), *x.shape).clone()
    filled[..., free] = grid.unsqueeze(1).expand(-1, len(x), -1)
    chunk = max(LARGEST // max(len(x), 1), 1)
    log_p = torch.cat([dist.log_prob(candidates) for candidates in filled.split(chunk)])
    return Completion(filled, log_p + math.log(len(grid)), "enumeration", dist.output)


def _weighted(dist: AutoregressiveDistribution, x: Tensor, rows: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Make ``draws`` completions by one order, with their log weights."""
    values = x.expand(draws, *x.shape).reshape(-1, x.shape[-1])
    clamped = rows.expand(draws, *rows.shape).reshape(values.shape)
    filled, log_weights = clamped_walk(dist.row_by_row(draws), values, clamped)
    return filled.view(draws, *x.shape), log_weights.view(draws, -1)


@torch.no_grad()
def clamped_walk(dist: AutoregressiveDistribution, values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    r"""Follow the order and draw the unknown columns: the rows, and $\sum_{i \in b} \log p(x_i \mid x_{<i})$ of each.

    Args:
        dist: without a batch shape, or with one context per row.
        values: ``rows x D``.
        known: booleans of that shape.
    """
    log_weights = values.new_zeros(len(values))

    def choose(column: int, numbers: Tensor) -> Tensor:
        clamped = known[:, column]
        value = torch.where(clamped, values[:, column], dist.output.sample_column(column, numbers))
        log_weights.add_(torch.where(clamped, dist.output.log_prob_column(column, numbers, value), 0.0))
        return value

    return dist.network.walk(choose, dist.output, len(values), dist.context), log_weights


def check_context_columns(context: int) -> int:
    """Check the number of a context's columns and return it."""
    return check_count("context", context, 0, "its number of columns, 0 for none")


def check_context(context: Tensor, columns: int) -> None:
    """Refuse a context, ``batch_shape x C``, of another width than the model was made for."""
    if context.shape[-1:] != (columns,):
        made = f"{columns} columns of context" if columns else "no context"
        raise ValueError(
            f"context got shape {tuple(context.shape)}, but the model was made with {made}; say context= when making it"
        )
