"""Boltzmann machines for real-valued data (section 20.5)."""
