"""From grey levels to real numbers: three conventions, each a space of its own."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .dataset import Dataset, Split
from .space import Space
from .streams import stream

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

    Attributes:
        log_determinant: of the map from components of normalised rows to whitened ones, in nats: the log-density of the
            former is that of the latter plus this.
    """

    mean: Tensor
    components: Tensor
    gains: Tensor
    floor: float

    @classmethod
    def of(
        cls, rows: Tensor, components: int, scale: float = 1.0, floor: float = 0.03, epsilon: float = 0.0
    ) -> "Whitening":
        r"""The whitening of rows: that many components, each with standard deviation ``scale`` afterwards.

        A component of variance $\lambda$ is multiplied by ``scale``$/\sqrt{\lambda + \epsilon}$: with $\epsilon > 0$ those of
        little variance, which are mostly noise, stay below ``scale``.

        Raises:
            ValueError: more components than the rows' centred pictures have, one without variance and no ``epsilon``, or a
                negative ``epsilon``.
        """
        if not 0 <= epsilon < math.inf:
            raise ValueError(f"whitening got epsilon={epsilon!r}; expected a variance to add, 0 or more")
        if not 1 <= components < rows.shape[1]:
            raise ValueError(
                f"whitened got components={components}; expected 1 to {rows.shape[1] - 1}: a row without its mean has one "
                "column less"
            )
        flat = normalise(rows, floor)
        values, vectors = torch.linalg.eigh(flat.T.cov())
        variances, kept = values.flip(0)[:components] + epsilon, vectors.flip(1)[:, :components]
        if not variances[-1] > 1e-6 * variances[0]:
            few = int((variances > 1e-6 * variances[0]).sum())
            raise ValueError(
                f"whitening found {few} components with a variance, and {components} are asked for: keep fewer, or choose an "
                "epsilon > 0"
            )
        return cls(flat.mean(0), kept, scale * variances.rsqrt(), floor)

    def apply(self, rows: Tensor) -> Tensor:
        """Whitened rows, ``rows x kept``."""
        return (normalise(rows, self.floor) - self.mean) @ self.components * self.gains

    @property
    def log_determinant(self) -> float:
        return float(self.gains.log().sum())

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


def whiten_pixels(dataset: Dataset, epsilon: float = 0.01, scale: float = 1.0, seed: int = 0) -> Dataset:
    r"""Pictures normalised for brightness and contrast, then whitened by a symmetric map, so that pixels stay pixels (ZCA).

    $z = \text{scale}\,(V \mathrm{diag}(\lambda + \epsilon)^{-1/2} V^\top (x - m) + n\, 1 / \sqrt D)$ with the principal
    components V of normalised training rows, their variances $\lambda$ and mean m. Normalising empties one direction, that of
    equal pixels, and a density could grow without bound there: a standard normal n a row, drawn once, fills it.

    V and $1/\sqrt D$ are a rotation, so that a density of z is one of ``whitened`` with D - 1 components times one of n,
    where $\epsilon = 0$. Otherwise the log-density of the same rows in those units is greater by
    $\tfrac12 \sum \log \frac{\lambda}{\lambda + \epsilon}$ (it is negative), the difference of the two
    ``Whitening.log_determinant``. Figures of different $\epsilon$ are of different spaces, and say so.

    Args:
        dataset: grey levels in [0, 1].
        epsilon: added to the variances of components, in units of a normalised pixel's variance of 1.
        scale: standard deviation of every component of much variance.
        seed: seed of the noise.

    Raises:
        ValueError: the rows are no grey levels, a negative ``epsilon``, or a component without variance and no ``epsilon``.

    >>> grey = Split(torch.rand(9, 4, generator=torch.Generator().manual_seed(0)), Space("unit interval", "grey levels"))
    >>> str(whiten_pixels(Dataset("toy", grey, grey, grey, (2, 2))).test.space)
    'real (normalised, whitened pixels, epsilon 0.01)'
    """
    _check_grey(dataset)
    columns = dataset.train.x.shape[1]
    whitening = Whitening.of(dataset.train.x, columns - 1, scale, epsilon=epsilon)

    def change(part: str, x: Tensor) -> Tensor:
        noise = torch.randn(len(x), 1, generator=stream("whitened pixels", seed, part))
        return whitening.apply(x) @ whitening.components.T + scale * noise / columns**0.5

    scaled = "" if scale == 1 else f" times {scale:g}"
    return _with_rows(dataset, change, f"normalised, whitened pixels{scaled}, epsilon {epsilon:g}", dataset.shape)


PREPROCESSING: dict[str, Callable[..., Dataset]] = {
    "standardised": standardise,
    "whitened": whiten,
    "zca": whiten_pixels,
}


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
