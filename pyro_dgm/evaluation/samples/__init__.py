"""Samples held against data, for models whether they have a likelihood or not (section 20.14)."""

from .neighbours import NearestNeighbours, PrecisionRecall, nearest_neighbours, precision_recall
from .parzen import ParzenFigure, parzen
from .two_sample import MMDTest, mmd_test

__all__ = [
    "MMDTest",
    "NearestNeighbours",
    "ParzenFigure",
    "PrecisionRecall",
    "mmd_test",
    "nearest_neighbours",
    "parzen",
    "precision_recall",
]
