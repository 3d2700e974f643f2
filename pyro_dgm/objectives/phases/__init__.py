"""Negative phases, which give the gradient of the log-partition function, around any Pyro program."""
