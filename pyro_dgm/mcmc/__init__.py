"""Kernels over many chains, and Pyro's MCMC interface over them."""

from ..energy import BoltzmannDistribution, EnergyDistribution
from .gibbs import BlockGibbs
from .kernel import ChainsKernel
from .vectorized import VectorizedMCMC

__all__ = ["BlockGibbs", "ChainsKernel", "VectorizedMCMC", "default_kernel"]


def default_kernel(dist: EnergyDistribution) -> type[ChainsKernel]:
    """The kernel that fits a distribution: block Gibbs where there are units to draw."""
    if isinstance(dist, BoltzmannDistribution):
        return BlockGibbs
    raise ValueError(f"{type(dist).__name__} has no default kernel; pass one, as in dgm.PCD(kernel=...)")
