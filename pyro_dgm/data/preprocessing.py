"""The ways to change the rows of a data set, by name."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..signatures import check
from ..signatures import options as signature
from .dataset import Dataset, check_dataset
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


def check_how(how: str) -> None:
    """Refuse an unknown preprocessing.

    Raises:
        ValueError: the message lists all.
    """
    if not isinstance(how, str) or how not in PREPROCESSING:
        raise ValueError(f"Unknown preprocessing {how!r}; expected one of: {', '.join(PREPROCESSING)}.")


def preprocess(dataset: Dataset, how: str, **options: Any) -> Dataset:
    """Change the rows of all splits by the convention of a name, with its options.

    Raises:
        ValueError: no dataset; an unknown name or option, or one of another type.
    """
    check_how(how)
    check_dataset(dataset, "preprocess")
    options = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    check({name: option for name, option in signature(PREPROCESSING[how]).items() if name != "dataset"}, options, how)
    try:
        return PREPROCESSING[how](dataset, **options)
    except TypeError as error:
        raise ValueError(f"preprocessing {how!r} got {options}: {error}") from None
