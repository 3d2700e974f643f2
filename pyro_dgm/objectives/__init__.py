"""Training criteria that Pyro lacks, usable around any Pyro program."""

from .negative_phase import NegativePhaseProgram, PhaseMessenger, negative_phase
from .phases import CD, PCD, ExactNegativePhase, NegativePhase

__all__ = [
    "CD",
    "PCD",
    "ExactNegativePhase",
    "NegativePhase",
    "NegativePhaseProgram",
    "PhaseMessenger",
    "negative_phase",
]
