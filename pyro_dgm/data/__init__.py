"""Datasets: where the rows come from, what space they live in, how grey levels become bits."""

from .binarise import binarise
from .dataset import Dataset, Split
from .real import Whitening, preprocess
from .sequences import pad, unpad
from .sources import load, names
from .space import Space

__all__ = ["Dataset", "Space", "Split", "Whitening", "binarise", "load", "names", "pad", "preprocess", "unpad"]
