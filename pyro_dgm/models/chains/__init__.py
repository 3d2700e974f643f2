"""Chains of autoencoders, generative stochastic networks, diffusion (sections 20.11-20.13)."""
