"""Training criteria that Pyro lacks, usable around any Pyro program."""

from .criteria.noise_contrastive import NoiseContrastive
from .criteria.pseudolikelihood import PseudoLikelihood, pseudo_log_likelihood
from .criteria.ratio_matching import RatioMatching
from .objective import Elbo, Objective
from .phases.contrastive import CD
from .phases.objective import NegativePhaseObjective
from .phases.persistent import PCD
from .phases.phase import ExactNegativePhase, NegativePhase
from .phases.program import NegativePhaseProgram, PhaseMessenger, negative_phase

__all__ = [
    "CD",
    "PCD",
    "Elbo",
    "ExactNegativePhase",
    "NegativePhase",
    "NegativePhaseObjective",
    "NegativePhaseProgram",
    "NoiseContrastive",
    "Objective",
    "PhaseMessenger",
    "PseudoLikelihood",
    "RatioMatching",
    "negative_phase",
    "pseudo_log_likelihood",
]
