"""Kernels over energy distributions, and Pyro's MCMC over many chains at once."""

from .gibbs import BlockGibbs
from .kernel import ChainsKernel
from .vectorized import VectorizedMCMC

__all__ = ["BlockGibbs", "ChainsKernel", "VectorizedMCMC"]
