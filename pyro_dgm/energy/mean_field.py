"""A graph bound to parameters: energies, fields, sweeps, mean field and sums over free units."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MeanField(NamedTuple):
    """A factorial distribution of some layers: flat mean statistics, and the entropy of every row in nats."""

    statistics: dict[str, tuple[Tensor, ...]]
    entropy: Tensor
