"""Training runs: fit, checkpoints, resuming."""

from .checkpoint import load
from .divergence import TrainingDiverged
from .fit import fit
from .pretrain import pretrain
from .trainer import Run

__all__ = ["Run", "TrainingDiverged", "fit", "load", "pretrain"]
