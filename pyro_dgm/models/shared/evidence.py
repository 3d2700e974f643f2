"""Log-likelihoods of rows with what is known of their error: exact ones, estimates and bounds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from ...energy import LogPartition

WIDTH = 1.96
"""Standard errors from an interval's figure to its end: 95 % of a normal law."""


def between(values: Tensor, log_z: LogPartition) -> Evidence:
    """Log-likelihoods ``values`` of rows, and the interval that the two ends of log Z give their mean.

    It goes from the mean log weight of forward annealing to that of reverse annealing, widened by ``WIDTH`` standard errors
    of those means, and always holds the value.
    """
    return Evidence(
        values,
        kind="exact" if log_z.exact else "estimate",
        method="enumeration" if log_z.exact else log_z.method,
        stderr=float(log_z.stderr),
        lower=min(float(log_z.value - log_z.upper - WIDTH * log_z.stderr_upper), 0.0),
        upper=max(float(log_z.value - log_z.lower + WIDTH * log_z.stderr_lower), 0.0),
        details={
            "log_partition": float(log_z.value),
            "log_partition_lower": float(log_z.lower),
            "log_partition_upper": float(log_z.upper),
            "log_partition_lower_stderr": float(log_z.stderr_lower),
            "log_partition_upper_stderr": float(log_z.stderr_upper),
        },
    )


def bounded(values: Tensor, log_z: LogPartition) -> Evidence:
    """Variational bounds of rows less log Z: the same with nothing that bounds the figure from above."""
    found = between(values - log_z.value, log_z)
    return dataclasses.replace(found, kind="lower bound", method=f"variational bound, {found.method}", upper=math.inf)


@dataclass(frozen=True)
class Evidence:
    """The log-likelihoods of some rows as far as a model knows them, in nats.

    Attributes:
        values: one figure a row.
        kind: ``"exact"``, ``"estimate"``, ``"lower bound"`` or ``"upper bound"``.
        method: how they were found.
        stderr: the standard error of their mean that comes from the estimator.
        lower: shift of the mean to the interval's lower end (0 or negative).
        upper: shift to its upper end; infinite where nothing bounds it.
        details: further figures worth keeping.
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
