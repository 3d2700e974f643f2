"""The ways to change the rows of a data set, by name."""

from collections.abc import Callable
from typing import Any

from .dataset import Dataset
from .real import standardise, whiten, whiten_pixels
from .transposed import transposed
from .windows import windowed

PREPROCESSING: dict[str, Callable[..., Dataset]] = {
    "standardised": standardise,
    "whitened": whiten,
    "zca": whiten_pixels,
    "windows": windowed,
    "transposed": transposed,
}
"""The conventions by name."""


def preprocess(dataset: Dataset, how: str, **options: Any) -> Dataset:
    """Change the rows of all splits by the convention of a name, with its options.

    Raises:
        ValueError: an unknown name or option.
    """
    if how not in PREPROCESSING:
        raise ValueError(f"Unknown preprocessing {how!r}; expected one of: {', '.join(PREPROCESSING)}.")
    try:
        return PREPROCESSING[how](dataset, **options)
    except TypeError as error:
        raise ValueError(f"preprocessing {how!r} got {options}: {error}") from None
