"""Estimators of bounds and their gradients for any program with a guide (sections 20.9 and 20.10.1)."""
