"""What a recipe's model is measured by, one file a measure; a recipe names its measure in ``evaluation``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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


def measured(name: str, trained: Trained, options: Mapping[str, Any]) -> Outcome:
    """The figure, its text and its details by the measure of a name."""
    if name not in MEASURES:
        raise ValueError(f"measure got {name!r}; expected one of {', '.join(MEASURES)}")
    return MEASURES[name](trained, **options)
