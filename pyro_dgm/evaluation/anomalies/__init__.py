"""Anomalies: rows scored by a model, and how well a score ranks them (section 20.14)."""

from .ranking import Ranking, rank
from .scores import AnomalyScores, anomaly_scores

__all__ = ["AnomalyScores", "Ranking", "anomaly_scores", "rank"]
