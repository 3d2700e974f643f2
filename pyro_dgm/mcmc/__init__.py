"""Kernels over many chains, and Pyro's MCMC interface over them."""

from __future__ import annotations

from collections.abc import Callable

from ..energy import EnergyDistribution
from .gibbs import BlockGibbs
from .hamiltonian import HMC, GibbsLangevin
from .kernel import ChainsKernel, EnergyKernel
from .model_chain import ModelChain
from .prediction_chain import PredictionChain
from .tempering import ParallelTempering
from .transitions import TemperedTransitions
from .vectorized import VectorizedMCMC

__all__ = [
    "HMC",
    "BlockGibbs",
    "ChainsKernel",
    "EnergyKernel",
    "GibbsLangevin",
    "ModelChain",
    "ParallelTempering",
    "PredictionChain",
    "TemperedTransitions",
    "VectorizedMCMC",
    "default_kernel",
]


def default_kernel(dist: EnergyDistribution) -> Callable[..., EnergyKernel]:
    """The kernel that fits a distribution: block Gibbs if it has units to draw, HMC if it has a free energy alone."""
    return BlockGibbs if dist.layered else HMC
