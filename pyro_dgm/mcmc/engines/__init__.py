"""Engines that move the chains of a run: torch, sweep by sweep, or compiled code, many sweeps at a time."""
