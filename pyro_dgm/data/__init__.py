"""Datasets: their sources, the space of their rows, and conversions of grey levels to bits or real numbers."""

from .binarise import binarise
from .dataset import Dataset, Split
from .packing import pack
from .preprocessing import preprocess
from .row_files import read_rows
from .sequences import pad, unpad
from .sources import load, located, names
from .space import Space
from .whitening import Whitening
from .windows import windows

__all__ = [
    "Dataset",
    "Space",
    "Split",
    "Whitening",
    "binarise",
    "load",
    "located",
    "names",
    "pack",
    "pad",
    "preprocess",
    "read_rows",
    "unpad",
    "windows",
]
