"""What moves the chains of a run: torch sweep by sweep, or compiled code for many sweeps at a time."""
