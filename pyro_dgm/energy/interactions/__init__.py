"""Couplings between layers: one file per connectivity."""

from .convolution import Convolution
from .dense import Dense, Lateral
from .interaction import End, Interaction, Statistics
from .sparse import Sparse

__all__ = ["Convolution", "Dense", "End", "Interaction", "Lateral", "Sparse", "Statistics"]
