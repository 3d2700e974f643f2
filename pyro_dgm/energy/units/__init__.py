"""Layers of units: one file per kind."""

from .binary import Binary
from .categorical import Categorical
from .gaussian import Gaussian
from .spike_slab import SpikeSlab
from .spin import Spin
from .unit import ScalarUnit, Unit

__all__ = ["Binary", "Categorical", "Gaussian", "ScalarUnit", "SpikeSlab", "Spin", "Unit"]
