"""Samples held against data, for models whether they have a likelihood or not (section 20.14)."""

from .classifiers import TwoSampleTest, two_sample_test
from .neighbours import NearestNeighbours, PrecisionRecall, nearest_neighbours, precision_recall
from .parzen import ParzenFigure, parzen, parzen_references
from .precision_curve import PrecisionCurve, prd_of_laws, precision_curve
from .summary import SampleFigure, sample_summary
from .two_sample import MMDTest, mmd_test

__all__ = [
    "MMDTest",
    "NearestNeighbours",
    "ParzenFigure",
    "PrecisionCurve",
    "PrecisionRecall",
    "SampleFigure",
    "TwoSampleTest",
    "mmd_test",
    "nearest_neighbours",
    "parzen",
    "parzen_references",
    "prd_of_laws",
    "precision_curve",
    "precision_recall",
    "sample_summary",
    "two_sample_test",
]
