"""Distributions that models emit, of rows and of sequences."""
