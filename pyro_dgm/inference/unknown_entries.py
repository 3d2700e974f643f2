"""Steps of the unknown entries of rows given the known ones and the latents."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Redraws(Protocol):
    """A distribution of rows whose columns depend on one another, and that can move some of them given the others."""

    def redraw(self, value: Tensor, known: Tensor) -> Tensor:
        """One step of a chain over the unknown entries that leaves their law given the known ones as it is."""
        ...


def redrawn(fn: Any, value: Tensor, known: Tensor) -> Tensor:
    """Rows with their unknown entries drawn anew: independent columns from their law, others by a step of a chain.

    Args:
        fn: the distribution of rows given the latents.
        value: rows, complete.
        known: booleans that say which entries stay: ``rows x event_shape``.

    Raises:
        ValueError: columns that depend on one another, of a distribution without a ``redraw``.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> law, known = dist.Normal(torch.zeros(3, 2), 1.0).to_event(1), torch.tensor([True, False]).expand(3, 2)
        >>> redrawn(law, torch.ones(3, 2), known)[:, 0]
        tensor([1., 1., 1.])
    """
    if isinstance(fn, Redraws):
        return fn.redraw(value, known)
    columns = fn
    while columns.event_shape and hasattr(columns, "base_dist"):
        columns = columns.base_dist
    if columns.event_shape:
        raise ValueError(
            f"{type(columns).__name__} has columns that depend on one another given the latents: its draws of some of them do "
            "not fit the known others. Give it a method redraw(value, known), one step of a chain over the unknown entries, "
            "or make it of independent columns by to_event(1)"
        )
    return torch.where(known, value, fn.sample())
