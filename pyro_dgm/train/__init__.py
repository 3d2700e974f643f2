"""Training runs: fit, checkpoints, resuming."""

from .checkpoint import load
from .fit import fit
from .pretrain import pretrain
from .trainer import Run, TrainingDiverged

__all__ = ["Run", "TrainingDiverged", "fit", "load", "pretrain"]
