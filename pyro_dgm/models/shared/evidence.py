"""Log-likelihoods of rows, exact, estimated or bounded, with their uncertainty."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from ...energy import LogPartition

WIDTH = 1.96
"""Standard errors from the centre of an interval to its ends: 95 % of a normal distribution."""


def between(values: Tensor, log_z: LogPartition) -> Evidence:
    """The evidence of rows with log-likelihoods ``values``, with an interval of their mean from the two ends of log Z.

    The interval goes from the mean log weight of forward annealing to that of reverse annealing, widened by 1.96
    standard errors of those means, and always contains the value. Where every row has a log Z of its own, the figures are
    means over the rows, whose errors are independent.
    """
    value, lower, upper = (float(t.mean()) for t in (log_z.value, log_z.lower, log_z.upper))
    stderr, stderr_lower, stderr_upper = (
        float(t.square().sum().sqrt() / t.numel()) for t in (log_z.stderr, log_z.stderr_lower, log_z.stderr_upper)
    )
    return Evidence(
        values,
        kind="exact" if log_z.exact else "estimate",
        method="enumeration" if log_z.exact else log_z.method,
        stderr=stderr,
        lower=min(value - upper - WIDTH * stderr_upper, 0.0),
        upper=max(value - lower + WIDTH * stderr_lower, 0.0),
        details={
            "log_partition": value,
            "log_partition_lower": lower,
            "log_partition_upper": upper,
            "log_partition_lower_stderr": stderr_lower,
            "log_partition_upper_stderr": stderr_upper,
        },
    )


def bounded(values: Tensor, log_z: LogPartition) -> Evidence:
    """The evidence of variational bounds ``values`` less log Z: as ``between``, but unbounded above."""
    evidence = between(values - log_z.value, log_z)
    method = f"variational bound, {evidence.method}"
    return dataclasses.replace(evidence, kind="lower bound", method=method, upper=math.inf)


@dataclass(frozen=True)
class Evidence:
    """The log-likelihoods of rows, or bounds or estimates of them, in nats.

    Attributes:
        values: one figure per row.
        kind: ``"exact"``, ``"estimate"``, ``"lower bound"`` or ``"upper bound"``.
        method: the method in words.
        stderr: the standard error of their mean due to the estimator.
        lower: the interval's lower end less the mean (0 or negative).
        upper: its upper end less the mean; infinite where nothing bounds it.
        details: further figures by name.
    """

    values: Tensor
    kind: str
    method: str
    stderr: float
    lower: float
    upper: float
    details: dict[str, float]

    @classmethod
    def exact(cls, values: Tensor, method: str, details: Mapping[str, float] | None = None) -> Self:
        """Log-likelihoods without an error."""
        return cls(values, "exact", method, stderr=0.0, lower=0.0, upper=0.0, details=dict(details or {}))
