"""Recorded recipes: the training and evaluation behind every row of the results table."""

from .reproduction import reproduce
from .stored import recipes, results
from .table import table

__all__ = ["recipes", "reproduce", "results", "table"]
