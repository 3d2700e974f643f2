"""Generators known by their samples alone, trained by games and moments (sections 20.10.4-20.10.6)."""
