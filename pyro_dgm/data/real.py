"""From grey levels to real numbers: two conventions, each a space of its own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_dgm.data.dataset import Dataset, Split
from pyro_dgm.data.space import Space
from pyro_dgm.data.streams import stream

LEVELS = 256
"""Grey levels of a byte."""


def standardise(dataset: Dataset, seed: int = 0) -> Dataset:
    """Grey bytes as real numbers: spread over their steps, then every column with mean 0 and variance 1.

    Without the spreading (uniform noise of one 256th, drawn once) a density could grow without bound at the levels that
    occur. Mean and variance are the training rows'.

    Args:
        dataset: grey levels in [0, 1].
        seed: seed of the noise.

    Raises:
        ValueError: the rows are no grey levels.

    >>> grey = Split(torch.tensor([[0.2], [0.4]]), Space("unit interval", "grey levels"))
    >>> str(standardise(Dataset("toy", grey, grey, grey, (1,))).test.space)
    'real (dequantised, standardised)'
    """
    _check_grey(dataset)
    spread = {
        part: (split.x * (LEVELS - 1) + torch.rand(split.x.shape, generator=stream("dequantise", seed, part))) / LEVELS
        for part, split in _splits(dataset).items()
    }
    mean, scale = spread["train"].mean(0), spread["train"].std(0, correction=0).clamp_min(1 / LEVELS)
    return _with_rows(
        dataset, lambda part, _: (spread[part] - mean) / scale, "dequantised, standardised", dataset.shape
    )


class Whitening(NamedTuple):
    """Rows without brightness and contrast, rotated onto principal components of equal variance.

    Args:
        mean: of the normalised training rows, ``columns``.
        components: orthonormal, ``columns x kept``.
        gains: what every component is multiplied by, ``kept``.
        floor: the least contrast a row is divided by.
    """

    mean: Tensor
    components: Tensor
    gains: Tensor
    floor: float

    @classmethod
    def of(cls, rows: Tensor, components: int, scale: float = 1.0, floor: float = 0.03) -> "Whitening":
        """The whitening of rows: that many components, each with standard deviation ``scale`` afterwards.

        Raises:
            ValueError: more components than the rows' centred pictures have.
        """
        if not 1 <= components < rows.shape[1]:
            raise ValueError(
                f"whitened got components={components}; expected 1 to {rows.shape[1] - 1}: a row without its mean has one "
                "column less"
            )
        flat = normalise(rows, floor)
        values, vectors = torch.linalg.eigh(flat.T.cov())
        kept = vectors.flip(1)[:, :components]
        return cls(flat.mean(0), kept, scale * values.flip(0)[:components].rsqrt(), floor)

    def apply(self, rows: Tensor) -> Tensor:
        """Whitened rows, ``rows x kept``."""
        return (normalise(rows, self.floor) - self.mean) @ self.components * self.gains

    def pictures(self, filters: Tensor) -> Tensor:
        """Filters over components, ``kept x filters``, as pictures of whitened pixels, ``filters x columns``."""
        return (self.components @ filters).T


def normalise(rows: Tensor, floor: float = 0.03) -> Tensor:
    """Every row without its mean and divided by its standard deviation, which counts as ``floor`` at least."""
    centred = rows - rows.mean(1, keepdim=True)
    return centred / (centred.var(1, correction=0, keepdim=True) + floor**2).sqrt()


def whiten(dataset: Dataset, components: int = 32, scale: float = 1.0) -> Dataset:
    """Pictures normalised for brightness and contrast, then whitened by the training rows' principal components.

    Args:
        dataset: grey levels in [0, 1].
        components: how many are kept.
        scale: standard deviation of every component. Covariance models want less than 1.

    Raises:
        ValueError: the rows are no grey levels, or have fewer components.
    """
    _check_grey(dataset)
    whitening = Whitening.of(dataset.train.x, components, scale)
    scaled = "" if scale == 1 else f" times {scale:g}"
    text = f"normalised, {components} whitened components{scaled}"
    return _with_rows(dataset, lambda _, x: whitening.apply(x), text, (components,))


PREPROCESSING: dict[str, Callable[..., Dataset]] = {"standardised": standardise, "whitened": whiten}


def preprocess(dataset: Dataset, how: str, **options: Any) -> Dataset:
    """Grey levels as real numbers, by the name of a convention and its options.

    Raises:
        ValueError: an unknown name or option.
    """
    if how not in PREPROCESSING:
        raise ValueError(f"Unknown preprocessing {how!r}; expected one of: {', '.join(PREPROCESSING)}.")
    try:
        return PREPROCESSING[how](dataset, **options)
    except TypeError as error:
        raise ValueError(f"preprocessing {how!r} got {options}: {error}") from None


def _splits(dataset: Dataset) -> dict[str, Split]:
    return {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}


def _check_grey(dataset: Dataset) -> None:
    for part, split in _splits(dataset).items():
        if split.space.support == "binary" or split.x.min() < 0 or split.x.max() > 1:
            raise ValueError(
                f"Dataset {dataset.name!r}: split {part!r} holds {split.space}, from {float(split.x.min()):g} to "
                f"{float(split.x.max()):g}; expected grey levels in [0, 1]."
            )


def _with_rows(
    dataset: Dataset, change: Callable[[str, Tensor], Tensor], preprocessing: str, shape: tuple[int, ...]
) -> Dataset:
    space = Space("real", preprocessing)
    train, valid, test = (Split(change(part, split.x), space, split.labels) for part, split in _splits(dataset).items())
    return Dataset(dataset.name, train, valid, test, shape)
