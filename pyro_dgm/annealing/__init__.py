"""Annealing of three kinds of state: by small steps from a known distribution to one whose log Z or log p(x) is unknown."""

from .hamiltonian import hamiltonian_ais
from .latents import annealed_log_weights
from .normalisers import log_weights
from .partition import log_partition
from .raise_bound import RaiseBound, raise_bound
from .units import AnnealingPath, forward_ais, reverse_ais

__all__ = [
    "AnnealingPath",
    "RaiseBound",
    "annealed_log_weights",
    "forward_ais",
    "hamiltonian_ais",
    "log_partition",
    "log_weights",
    "raise_bound",
    "reverse_ais",
]
