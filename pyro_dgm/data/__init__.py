"""Datasets: where the rows come from, what space they live in, how grey levels become bits."""

from pyro_dgm.data.binarise import binarise
from pyro_dgm.data.dataset import Dataset, Split
from pyro_dgm.data.real import Whitening, preprocess
from pyro_dgm.data.sequences import pad, unpad
from pyro_dgm.data.sources import load, names
from pyro_dgm.data.space import Space

__all__ = ["Dataset", "Space", "Split", "Whitening", "binarise", "load", "names", "pad", "preprocess", "unpad"]
