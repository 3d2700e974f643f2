"""What a recipe's model is measured by, one file a measure; a recipe names its measure in ``evaluation``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...extras import need
from . import classification, features, inpainting, likelihood, parzen, prediction, trained_on_samples
from .trained import Outcome, Trained

MEASURES: dict[str, Callable[..., Outcome]] = {
    "likelihood": likelihood.measure,
    "parzen": parzen.measure,
    "trained on samples": trained_on_samples.measure,
    "classification": classification.measure,
    "features": features.measure,
    "prediction": prediction.measure,
    "inpainting": inpainting.measure,
}


NEEDED: dict[str, tuple[str, ...]] = {
    "parzen": ("arviz", "sklearn"),
    "trained on samples": ("sklearn",),
    "features": ("sklearn",),
}
"""The extras without which a measure cannot be taken."""


def check_measure(name: str) -> None:
    """Refuse a measure that is not known, or whose packages are not installed."""
    if name not in MEASURES:
        raise ValueError(f"measure got {name!r}; expected one of {', '.join(MEASURES)}")
    need(f"the measure {name!r}", *NEEDED.get(name, ()))


def measured(name: str, trained: Trained, options: Mapping[str, Any]) -> Outcome:
    """The figure, its text and its details by the measure of a name."""
    check_measure(name)
    return MEASURES[name](trained, **options)
