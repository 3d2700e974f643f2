"""Layers of units: one file a kind."""

from .binary import Binary
from .categorical import Categorical
from .gaussian import Gaussian
from .spin import Spin
from .unit import ScalarUnit, Unit

__all__ = ["Binary", "Categorical", "Gaussian", "ScalarUnit", "Spin", "Unit"]
