"""Boltzmann machines: general, restricted, deep belief networks, deep Boltzmann machines (sections 20.1-20.4)."""
