"""What any Pyro program can be asked with a guide: importance weights, posterior draws, particles, the sites it has."""
