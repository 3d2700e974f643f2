"""Distributions of the rows and sequences that models generate."""
