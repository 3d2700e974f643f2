"""Couplings between layers: one file a connectivity."""

from .dense import Dense, Lateral
from .interaction import End, Interaction, Statistics
from .sparse import Sparse

__all__ = ["Dense", "End", "Interaction", "Lateral", "Sparse", "Statistics"]
