"""Energy-based distributions: units and interactions on a graph, bound to parameters."""

from .boltzmann import BoltzmannDistribution
from .distribution import EnergyDistribution, NegativePhaseError, NoNormaliser, NotFinite, without_gradient
from .enumeration import NotEnumerable, all_states, exact_sample, log_states, log_sum, summable
from .figure import LogPartition
from .free import FreeEnergyDistribution
from .graph import Block, Colour, Graph
from .interactions import (
    Convolution,
    Dense,
    Elementwise,
    End,
    Factored,
    Interaction,
    Lateral,
    Masked,
    Multiway,
    Sparse,
    ThreeWay,
)
from .machine import Clamp, Machine, State
from .mean_field import MeanField, mean_field
from .switched_forms import Validity, spike_slab_validity
from .temperatures import temperatures
from .units import AtMostOne, Binary, Categorical, Gaussian, MaxPooled, ScalarUnit, SpikeSlab, Spin, Unit

__all__ = [
    "AtMostOne", "Binary", "Block", "BoltzmannDistribution", "Categorical", "Clamp", "Colour", "Convolution", "Dense",
    "Elementwise", "End", "EnergyDistribution", "Factored", "FreeEnergyDistribution", "Gaussian", "Graph", "Interaction",
    "Lateral", "LogPartition", "Machine", "Masked", "MaxPooled", "MeanField", "Multiway", "NegativePhaseError",
    "NoNormaliser", "NotEnumerable", "NotFinite", "ScalarUnit", "Sparse", "SpikeSlab", "Spin", "State", "ThreeWay", "Unit",
    "Validity",
    "all_states", "exact_sample", "log_states", "log_sum", "mean_field", "spike_slab_validity", "summable", "temperatures",
    "without_gradient",
]  # fmt: skip
