"""Convolutional and other structured Boltzmann machines (sections 20.6-20.8)."""
