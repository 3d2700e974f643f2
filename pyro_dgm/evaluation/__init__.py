"""Figures with their uncertainty, ArviZ conversion, pictures."""

from .anomalies import Ranking, anomaly_scores, rank
from .blind import blind_test, score_answers
from .divergences import Divergence, Divergences, kl_divergences
from .idata import to_arviz
from .latents import SiteActivity, SiteKL, active_units, kl_per_latent
from .likelihood import LogLikelihood, log_likelihood
from .samples import (
    ParzenFigure,
    mmd_test,
    nearest_neighbours,
    parzen,
    parzen_references,
    prd_of_laws,
    precision_curve,
    precision_recall,
    sample_summary,
    two_sample_test,
)

__all__ = [
    "Divergence",
    "Divergences",
    "LogLikelihood",
    "ParzenFigure",
    "Ranking",
    "SiteActivity",
    "SiteKL",
    "active_units",
    "anomaly_scores",
    "blind_test",
    "kl_divergences",
    "kl_per_latent",
    "log_likelihood",
    "mmd_test",
    "nearest_neighbours",
    "parzen",
    "parzen_references",
    "prd_of_laws",
    "precision_curve",
    "precision_recall",
    "rank",
    "sample_summary",
    "score_answers",
    "to_arviz",
    "two_sample_test",
]
