"""The distribution of unknown columns given the known ones, under an autoregressive distribution."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from .. import processes
from ..checks import check_choice, check_count, shown
from .completion import METHODS, Completion
from .distribution import AutoregressiveDistribution
from .ensemble import OrderEnsemble
from .outputs import DECLARE
from .outputs.discrete import category

Distribution = AutoregressiveDistribution | OrderEnsemble

LARGEST = 1 << 12
"""The most joint values of the unknown columns that are listed."""


def check_known(x: Tensor, known: Tensor) -> Tensor:
    """Check which entries are known, and return it as booleans, ``rows x D``.

    Raises:
        ValueError: no booleans, a shape that does not fit, or a known entry that is no number.
    """
    if not isinstance(known, Tensor) or known.dtype != torch.bool or known.shape not in (x.shape, x.shape[1:]):
        got = f"{known.dtype} of shape {tuple(known.shape)}" if isinstance(known, Tensor) else shown(known)
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

    Where every known column of a row comes before every unknown one in the order, following the order draws exactly from
    $p(x_a \mid x_b)$. Otherwise, if the row's unknown columns have at most 2^12 joint values, all are listed. Else the known
    columns are clamped while the order is followed, and a draw's weight is $\prod_{i \in b} p(x_i \mid x_{<i})$ (likelihood
    weighting). In a mixture of orders every member makes equally many draws. Several processes share the work, and each
    returns all draws.

    Args:
        dist: without a batch shape, or with one context per row.
        x: ``rows x D``; unknown columns may hold anything.
        known: booleans, ``D`` or ``rows x D``.
        draws: K, rounded up to a multiple of the orders; ``"enumeration"`` lists all values instead.
        method: ``"order"``, ``"enumeration"`` or ``"importance"``; by default the first of them that works, for every set of
            known columns by itself.

    Raises:
        ValueError: a distribution of another batch shape, shapes that do not fit, a known value that its column cannot
            have, draws below one, or a method that cannot be used here, with the reason.
    """
    draws = check_count("draws", draws)
    x, rows = _checked(dist, x, known)
    if method is not None:
        check_choice("method", method, METHODS)
    if method == "order" and not bool(_in_order(dist, rows).all()):
        raise ValueError(
            "method='order' needs the known columns before the unknown ones in the order; use 'importance'"
        )
    everything = torch.arange(len(x), device=x.device)
    one_pass = method in ("order", "importance")
    parts = [(everything, method)] if one_pass else _parts(dist, rows, method)
    completed = [
        (part, _completed(dist if len(parts) == 1 else dist.of_rows(part), x[part], rows[part], draws, str(name)))
        for part, name in parts
    ]
    return Completion.joined(completed)


def _completed(dist: Distribution, x: Tensor, rows: Tensor, draws: int, method: str) -> Completion:
    if method == "enumeration":
        return _listed(dist, x, rows[0])
    draws_per_member = math.ceil(draws / len(dist.members))
    with processes.drawing(draws_per_member) as mine:
        by_member = [map(processes.gather, _weighted(member, x, rows, mine)) for member in dist.members]
        filled, log_weights = (torch.cat(parts) for parts in zip(*by_member, strict=True))
    return Completion(filled, log_weights, dist.output, _all(x, method))


class Conditioned(NamedTuple):
    """Draws of the unknown columns of equal weight.

    Attributes:
        draws: ``K x rows x D``.
        method: the methods of ``complete`` behind them.
        effective_sample_size: for every row, the number of independent draws that they are worth; at most K.
    """

    draws: Tensor
    method: str
    effective_sample_size: Tensor


@torch.no_grad()
def draw_given(dist: Distribution, x: Tensor, known: Tensor, draws: int, oversample: int) -> Conditioned:
    r"""Draw the unknown columns given the known ones: ``draws`` of equal weight for every row.

    By ``"order"`` every draw is a walk of its own: in a mixture of orders along order m with probability proportional to
    $p(x_b \mid o_m)$. By ``"enumeration"`` it picks one of the listed values. These draws are exact and independent. By
    ``"importance"`` they are picked from ``oversample`` times as many weighted ones by the weights, so that a draw may occur
    several times.

    Raises:
        ValueError: as ``complete``.
    """
    draws = check_count("draws", draws)
    x, rows = _checked(dist, x, known)
    filled = x.new_empty(draws, *x.shape)
    sizes = x.new_full((len(x),), float(draws))
    parts = _parts(dist, rows)
    for part, method in parts:
        own = dist if len(parts) == 1 else dist.of_rows(part)
        if method == "order":
            filled[:, part] = _walked(own, x[part], rows[part], draws)
            continue
        many = _completed(own, x[part], rows[part], oversample * draws, method)
        filled[:, part] = many.resampled(draws)
        if not many.exact:
            # The variance of a mean: that of the weighted draws, and that of picking from them.
            sizes[part] = 1 / (1 / many.effective_sample_size + 1 / draws)
    return Conditioned(filled, ", ".join(sorted({method for _, method in parts})), sizes)


def _walked(dist: Distribution, x: Tensor, rows: Tensor, draws: int) -> Tensor:
    """Draw along orders in which the known columns come first, each chosen by the probability of the known columns."""
    members = dist.members
    with processes.drawing(draws) as mine:
        if len(members) == 1:
            return processes.gather(_weighted(members[0], x, rows, mine)[0])
        log_known = torch.stack([clamped_walk(member, x, rows)[1] for member in members], -1)
        chosen = category(log_known.expand(mine, *log_known.shape))
        filled = x.expand(mine, *x.shape).clone()
        for number, member in enumerate(members):
            draw, row = (chosen == number).nonzero(as_tuple=True)
            if len(row):
                filled[draw, row] = clamped_walk(member.of_rows(row), x[row], rows[row])[0]
        return processes.gather(filled)


def _checked(dist: Distribution, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The rows with zeros in unknown columns, and which columns are known, ``rows x D``."""
    if dist.batch_shape not in (torch.Size(), x.shape[:1]):
        raise ValueError(
            f"complete got a distribution of batch shape {tuple(dist.batch_shape)} for {len(x)} rows; expected none, or one "
            "context per row"
        )
    rows, x = check_known(x, known), dist.members[0].floating(x)
    if fault := dist.output.fault(x, rows):
        raise ValueError(f"complete got {fault}. {DECLARE}")
    return torch.where(rows, x, 0.0), rows  # an unknown column may hold NaN


def _parts(dist: Distribution, rows: Tensor, method: str | None = None) -> list[tuple[Tensor, str]]:
    """Numbers of rows that are completed together, and the method for each: the first that works, or ``"enumeration"``."""
    ordered = _in_order(dist, rows) if method is None else torch.zeros_like(rows[:, 0])
    patterns, which = rows.unique(dim=0, return_inverse=True)
    listed = torch.tensor(
        [method is not None or _count(dist, pattern) <= LARGEST for pattern in patterns], device=rows.device
    )
    listed = listed[which] & ~ordered
    by_pattern = [(listed & (which == number), "enumeration") for number in range(len(patterns))]
    parts = [(ordered, "order"), *by_pattern, (~ordered & ~listed, "importance")]
    return [(mask.nonzero().flatten(), name) for mask, name in parts if bool(mask.any())]


def _in_order(dist: Distribution, rows: Tensor) -> Tensor:
    """Whether the known columns of each row come first in every member's order: ``rows``."""
    ordered = [rows[:, member.network.order] for member in dist.members]
    return torch.stack([(known[:, 1:] <= known[:, :-1]).all(1) for known in ordered]).all(0)


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
    return Completion(filled, log_p + math.log(len(grid)), dist.output, _all(x, "enumeration"))


def _all(x: Tensor, method: str) -> Tensor:
    """The number of a method, for every row."""
    return torch.full((len(x),), METHODS.index(method), device=x.device)


def _weighted(dist: AutoregressiveDistribution, x: Tensor, rows: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Make ``draws`` completions by one order, with their log weights."""
    values = x.expand(draws, *x.shape).reshape(-1, x.shape[-1])
    clamped = rows.expand(draws, *rows.shape).reshape(values.shape)
    numbers = torch.arange(len(x), device=x.device).repeat(draws)
    filled, log_weights = clamped_walk(dist.of_rows(numbers), values, clamped)
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
    if not isinstance(context, Tensor):
        raise ValueError(f"context got {shown(context)}; expected a tensor, ... x {columns}")
    if context.shape[-1:] != (columns,):
        made = f"{columns} columns of context" if columns else "no context"
        raise ValueError(
            f"context got shape {tuple(context.shape)}, but the model was made with {made}; say context= when making it"
        )
