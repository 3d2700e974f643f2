"""Inference in any Pyro program with a guide: importance weights, posterior draws, particles, and its sites."""
