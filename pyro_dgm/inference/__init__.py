"""Inference in any Pyro program with a guide: importance weights, posterior draws, particles, the sites it has."""
