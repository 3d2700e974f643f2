"""Directed generative nets with latent variables: belief networks, generator networks, autoencoders (20.10.1-20.10.3)."""
