"""Training runs: fit, checkpoints, resuming."""

from .checkpoint import load
from .fit import Run, TrainingDiverged, fit

__all__ = ["Run", "TrainingDiverged", "fit", "load"]
