"""Figures with their uncertainty, ArviZ conversion, pictures."""

from .idata import to_arviz
from .likelihood import LogLikelihood, log_likelihood

__all__ = ["LogLikelihood", "log_likelihood", "to_arviz"]
