"""Couplings between layers: one file per connectivity."""

from .convolution import Convolution
from .dense import Dense, Lateral
from .factored import Factored, GatedFactors
from .interaction import End, Interaction, Statistics
from .masked import Elementwise, Masked
from .multiway import Multiway, ThreeWay
from .sparse import Sparse

__all__ = [
    "Convolution", "Dense", "Elementwise", "End", "Factored", "GatedFactors", "Interaction", "Lateral", "Masked", "Multiway",
    "Sparse", "Statistics", "ThreeWay",
]  # fmt: skip
