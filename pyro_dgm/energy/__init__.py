"""Energy-based distributions: units and interactions on a graph, bound to parameters."""

from .annealing import AnnealingPath, forward_ais, log_mean_exp, reverse_ais
from .distribution import BoltzmannDistribution, EnergyDistribution, NegativePhaseError, NotFinite, without_gradient
from .enumeration import NotEnumerable, all_states, exact_sample, log_states, log_sum, summable
from .graph import Block, Colour, Graph
from .interactions import Convolution, Dense, End, Interaction, Lateral, Sparse
from .machine import Clamp, Machine, State
from .partition import LogPartition, log_partition
from .units import Binary, Categorical, Gaussian, ScalarUnit, SpikeSlab, Spin, Unit
from .validity import Validity, spike_slab_validity

__all__ = [
    "AnnealingPath",
    "Binary",
    "Block",
    "BoltzmannDistribution",
    "Categorical",
    "Clamp",
    "Colour",
    "Convolution",
    "Dense",
    "End",
    "EnergyDistribution",
    "Gaussian",
    "Graph",
    "Interaction",
    "Lateral",
    "LogPartition",
    "Machine",
    "NegativePhaseError",
    "NotEnumerable",
    "NotFinite",
    "ScalarUnit",
    "Sparse",
    "SpikeSlab",
    "Spin",
    "State",
    "Unit",
    "Validity",
    "all_states",
    "exact_sample",
    "forward_ais",
    "log_mean_exp",
    "log_partition",
    "log_states",
    "log_sum",
    "reverse_ais",
    "spike_slab_validity",
    "summable",
    "without_gradient",
]
