"""Negative phases: where the log-partition function's gradient comes from, around any Pyro program."""
