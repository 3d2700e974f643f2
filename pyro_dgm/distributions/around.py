"""Distributions of rows that have another distribution inside, and what is bound to the energy distribution in there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import pyro.distributions as dist

from ..energy import EnergyDistribution


class Around(dist.TorchDistribution, ABC):
    """A distribution of rows whose values come from an inner one; a negative phase is bound to what is inside."""

    @property
    @abstractmethod
    def inner(self) -> Any:
        """The distribution of the values."""

    @abstractmethod
    def around(self, inner: Any) -> Self:
        """The same rows around another inner distribution of the same shapes."""


def bound_inside(fn: Any, bind: Callable[[EnergyDistribution], EnergyDistribution]) -> Any:
    """Apply ``bind`` to the energy distribution inside ``to_event``, ``mask``, ``expand`` and rows around it, if there is one."""
    if isinstance(fn, EnergyDistribution):
        return bind(fn)
    if isinstance(fn, Around):
        inner = bound_inside(fn.inner, bind)
        return fn if inner is fn.inner else fn.around(inner)
    base = getattr(fn, "base_dist", None)
    if base is None:
        return fn
    bound = bound_inside(base, bind)
    if bound is base:
        return fn
    if isinstance(fn, dist.Independent):
        return bound.to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.MaskedDistribution):
        return bound.mask(fn._mask)
    raise ValueError(
        f"an energy-based site is wrapped in {type(fn).__name__}, through which no negative phase can be bound; "
        "use .to_event(...), .mask(...) or a plate"
    )
