"""The likelihood of the known entries of rows with missing values, under Boltzmann machines."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...energy import Binary, BoltzmannDistribution, LogPartition, NotEnumerable
from ...energy.known_entries import known_log_sum
from .evidence import WIDTH, Evidence, between
from .many_machines import log_partitions

ROW_CHAINS = 10
"""Chains that anneal a row's sum by default."""


@torch.no_grad()
def known_evidence(
    dist: BoltzmannDistribution, x: Tensor, log_z: Callable[[], LogPartition], method: str | None, **options: Any
) -> Evidence:
    r"""$\log p(x_k) = \log \sum_{x_u, h} e^{-E(x_k, x_u, h)} - \log Z$ of the known entries of every row.

    The sum is exact where few states are to be listed: those of the hidden units, or of a row's missing entries. Elsewhere it is
    the log Z of a machine per row, of what is not known, annealed from both sides as the machine's own is.

    Args:
        dist: the machine's distribution.
        x: visible rows, NaN where a value is missing.
        log_z: gives the machine's log Z.
        method: ``"exact"``, ``"ais"`` or ``"bridge"``, or None.
        options: those of the annealing.

    Raises:
        ValueError: sums that are too long, of units that are no bits, whose rows have no annealing path.
    """
    try:
        rows = LogPartition.exactly(known_log_sum(dist.machine, dist.visible, x))
    except NotEnumerable as reason:
        unit = dist.machine.graph.layers[dist.visible]
        if method == "exact" or not isinstance(unit, Binary):
            remedy = "use method='ais'" if isinstance(unit, Binary) else "evaluate complete rows, or impute the others"
            raise ValueError(f"{reason}; {remedy}") from None
        rows = _annealed(dist, x, method or "ais", **options)
    return _ratio(rows, log_z())


def _annealed(dist: BoltzmannDistribution, x: Tensor, method: str, **options: Any) -> LogPartition:
    """The log-sums of rows by annealing, each from the mean field of what is not known.

    Ten chains a row are enough by default, since errors of rows are independent.
    """

    def left(rows: Tensor) -> BoltzmannDistribution:
        return dist.given_entries(rows.nan_to_num(), ~rows.isnan())[0]

    found = log_partitions(left, x, method, **{"chains": ROW_CHAINS, **options, "base": "mean-field"})
    constant = dist.given_entries(x.nan_to_num(), ~x.isnan())[1]
    moved = {name: getattr(found, name) + constant for name in ("value", "lower", "upper")}
    return LogPartition(
        **moved,
        stderr=found.stderr,
        stderr_lower=found.stderr_lower,
        stderr_upper=found.stderr_upper,
        method=found.method,
    )


def _ratio(rows: LogPartition, whole: LogPartition) -> Evidence:
    """The evidence of rows with log-sums ``rows``: errors of these are independent, that of log Z is common to all."""
    values = rows.value - whole.value
    evidence = between(values, whole)
    if rows.exact:
        return evidence

    def error(of_rows: Tensor, of_whole: Tensor) -> float:
        return math.sqrt(float(of_rows.square().sum()) / of_rows.numel() ** 2 + float(of_whole.square()))

    value = float(values.mean())
    lower = float(rows.lower.mean() - whole.upper) - WIDTH * error(rows.stderr_lower, whole.stderr_upper)
    upper = float(rows.upper.mean() - whole.lower) + WIDTH * error(rows.stderr_upper, whole.stderr_lower)
    return Evidence(
        values,
        kind="estimate",
        method=f"{rows.method} (missing values)",
        stderr=error(rows.stderr, whole.stderr),
        lower=min(lower - value, 0.0),
        upper=max(upper - value, 0.0),
        details=evidence.details,
    )
