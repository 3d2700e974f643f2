"""Recorded recipes: the training and evaluation behind every row of the results table."""

from .reproduction import folder_of, reproduce
from .stored import recipes, repeats, results
from .table import distances, table

__all__ = ["distances", "folder_of", "recipes", "repeats", "reproduce", "results", "table"]
