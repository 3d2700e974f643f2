"""The interface of distributions of rows that have another distribution inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import pyro.distributions as dist


class Around(dist.TorchDistribution, ABC):
    """A distribution of rows whose values come from an inner one; a negative phase is bound to what is inside."""

    @property
    @abstractmethod
    def inner(self) -> Any:
        """The distribution of the values."""

    @abstractmethod
    def around(self, inner: Any) -> Self:
        """The same rows around another inner distribution of the same shapes."""
