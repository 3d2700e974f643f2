"""Autoregressive networks (sections 20.10.7-20.10.10)."""
