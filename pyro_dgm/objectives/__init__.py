"""Training criteria that Pyro lacks, usable around any Pyro program."""

from .chains import CD
from .negative_phase import NegativePhaseProgram, PhaseMessenger, negative_phase
from .noise_contrastive import NoiseContrastive
from .persistent import PCD
from .phases import ExactNegativePhase, NegativePhase
from .pseudolikelihood import PseudoLikelihood, pseudo_log_likelihood
from .ratio_matching import RatioMatching

__all__ = [
    "CD",
    "PCD",
    "ExactNegativePhase",
    "NegativePhase",
    "NegativePhaseProgram",
    "NoiseContrastive",
    "PhaseMessenger",
    "PseudoLikelihood",
    "RatioMatching",
    "negative_phase",
    "pseudo_log_likelihood",
]
