"""Energy-based distributions: units and interactions on a graph, bound to parameters."""

from .boltzmann import BoltzmannDistribution
from .distribution import EnergyDistribution, NegativePhaseError, NotFinite, without_gradient
from .enumeration import NotEnumerable, all_states, exact_sample, log_states, log_sum, summable
from .figure import LogPartition
from .free import FreeEnergyDistribution
from .graph import Block, Colour, Graph
from .interactions import Convolution, Dense, End, Interaction, Lateral, Sparse
from .machine import Clamp, Machine, State
from .mean_field import MeanField, mean_field
from .switched_forms import Validity, spike_slab_validity
from .temperatures import temperatures
from .units import AtMostOne, Binary, Categorical, Gaussian, MaxPooled, ScalarUnit, SpikeSlab, Spin, Unit

__all__ = [
    "AtMostOne", "Binary", "Block", "BoltzmannDistribution", "Categorical", "Clamp", "Colour", "Convolution", "Dense", "End",
    "EnergyDistribution", "FreeEnergyDistribution", "Gaussian", "Graph", "Interaction", "Lateral", "LogPartition", "Machine",
    "MaxPooled", "MeanField", "NegativePhaseError", "NotEnumerable", "NotFinite", "ScalarUnit", "Sparse", "SpikeSlab", "Spin",
    "State", "Unit", "Validity", "all_states", "exact_sample", "log_states", "log_sum", "mean_field", "spike_slab_validity",
    "summable", "temperatures", "without_gradient",
]  # fmt: skip
