"""The support of rows of which some entries are given."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import constraints


class RowSupport(constraints.Constraint):
    """Rows of finite numbers: some are given (a length, a label), the others are values of a distribution.

    Args:
        values: the support of the distribution's values.
    """

    event_dim = 1

    def __init__(self, values: constraints.Constraint | None) -> None:
        self.is_discrete = values is not None and values.is_discrete

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite().all(-1)
