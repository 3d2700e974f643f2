"""Output families: conditional distributions of a column, with parameters that a network gives as numbers."""

from .discrete import BinaryOutput, CategoricalOutput
from .family import Output
from .mixed import MixedOutput
from .mixture import FLOOR, MixtureOutput
from .names import DECLARE, NAMES, output
from .standardised import StandardisedOutput, in_own_units

__all__ = [
    "DECLARE", "FLOOR", "NAMES", "BinaryOutput", "CategoricalOutput", "MixedOutput", "MixtureOutput", "Output",
    "StandardisedOutput", "in_own_units", "output",
]  # fmt: skip
