"""Layers of units: one file per kind."""

from .at_most_one import AtMostOne
from .binary import Binary
from .categorical import Categorical
from .gaussian import Gaussian
from .max_pooled import MaxPooled
from .spike_slab import SpikeSlab
from .spin import Spin
from .unit import ScalarUnit, Unit

__all__ = ["AtMostOne", "Binary", "Categorical", "Gaussian", "MaxPooled", "ScalarUnit", "SpikeSlab", "Spin", "Unit"]
