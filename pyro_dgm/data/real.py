"""The conversion of grey levels to real numbers, by three conventions; each makes a separate space."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..checks import check_seed
from ..columns import has_missing, mean_and_deviation
from .dataset import Dataset, Split
from .space import Space
from .streams import stream
from .whitening import Whitening

LEVELS = 256
"""The number of grey levels of a byte."""

DIGITS = 9
"""The digits of a number that tell it from all others of single precision."""

MOST_DIGITS = 17
"""The same of double precision."""


def standardise(dataset: Dataset, seed: int = 0) -> Dataset:
    """Every column brought to mean 0 and variance 1, as they are in the training rows; a constant column is only centred.

    Grey levels and bytes are first spread over their steps by uniform noise, drawn once; without it a density could grow
    without bound at the levels that occur. Real numbers, and the columns of a table, are taken as they are.

    Missing values (NaN) stay, and the known ones give means and deviations. A density of such rows is one of each row's known
    columns, which has no one log-determinant.

    Args:
        dataset: grey levels in [0, 1], bytes (whole numbers from 0 to 255), or real numbers.
        seed: the seed of the noise.

    Raises:
        ValueError: the rows are bits.

    >>> grey = Split(torch.tensor([[0.2], [0.4]]), Space("unit interval", "grey levels"))
    >>> str(standardise(Dataset("toy", grey, grey, grey, (1,))).test.space)
    'real (dequantised, standardised)'
    """
    splits, seed = _splits(dataset), check_seed(seed)
    if dataset.test.space.support == "binary":
        raise ValueError(
            f"Dataset {dataset.name!r} holds {dataset.test.space}; expected grey levels or real numbers: leave the "
            "preprocessing out."
        )
    whole = dataset.test.space.support == "whole numbers" and all(
        _within(split, LEVELS - 1) for split in splits.values()
    )
    steps = dataset.columns is None and (whole or all(_within(split, 1) for split in splits.values()))
    top = (1 if whole else LEVELS - 1) if steps else None
    spread = {part: _spread(split.x, top, seed, part) for part, split in splits.items()}
    mean, scale = mean_and_deviation(spread["train"] if steps else spread["train"].double())
    scale = scale.clamp_min(1 / LEVELS) if steps else scale.masked_fill(scale == 0, 1.0)
    log_determinant = -float(scale.double().log().sum())
    space = Space("real", "standardised", log_determinant, str(dataset.test.space))
    if steps:
        # The law of dequantised rows has a density of 256 a column at most; on its rows no other law has a higher mean.
        ceiling = scale.numel() * math.log(LEVELS) - log_determinant
        space = Space("real", "dequantised, standardised", log_determinant, "unit interval (dequantised)", ceiling)
    if any(has_missing(split.x) for split in splits.values()):
        space = Space(space.support, space.preprocessing)
    changed = _with_rows(dataset, lambda part, _: _forth(mean, scale, spread[part]), space, dataset.shape)
    # A lambda could not be sent to another process.
    return replace(
        changed,
        grey=partial(_back, mean, scale) if steps else None,
        convert=partial(_standardised, mean, scale, top, seed),
        restore=partial(_restored, mean, scale, top, dataset.train.x.dtype)
        if dataset.columns is None
        else partial(_decimals, mean, scale),
        columns=dataset.columns,
    )


def _spread(x: Tensor, top: int | None, seed: int, part: str) -> Tensor:
    """Rows of 256 levels, of which ``top`` is one's, spread over their steps; None for real numbers."""
    return (
        x
        if top is None
        else (x.float() * top + torch.rand(x.shape, generator=stream("dequantise", seed, part))) / LEVELS
    )


def _standardised(mean: Tensor, scale: Tensor, top: int | None, seed: int, x: Tensor) -> Tensor:
    """Other rows in the units of the training rows."""
    if x.shape[1] != len(mean):  # a single column would be taken for all
        raise ValueError(f"rows of {x.shape[1]} columns; those of the run have {len(mean)}")
    known = x[~x.isnan()]
    if top is not None and len(known) and not (float(known.min()) >= 0 and float(known.max()) * top <= LEVELS - 1):
        raise ValueError(
            f"the rows reach from {float(known.min()):g} to {float(known.max()):g}; expected grey levels from 0 to "
            f"{(LEVELS - 1) // top}, as the training rows have"
        )
    return _forth(mean, scale, _spread(x, top, seed, "test"))


def _forth(mean: Tensor, scale: Tensor, rows: Tensor) -> Tensor:
    """Rows standardised, in their own precision; only the result is rounded to it."""
    return ((rows.to(mean.dtype) - mean) / scale).to(rows.dtype)


def _back(mean: Tensor, scale: Tensor, rows: Tensor) -> Tensor:
    """Standardised rows as grey levels."""
    return (rows * scale + mean).to(rows.dtype)


def _restored(mean: Tensor, scale: Tensor, top: int | None, kind: torch.dtype, rows: Tensor) -> Tensor:
    """Standardised rows in the units and the precision that they were read in."""
    back = (rows * scale + mean).to(kind)
    return back if top is None else (back * LEVELS).floor().clamp(0, LEVELS - 1) / top


def _decimals(mean: Tensor, scale: Tensor, rows: Tensor) -> Tensor:
    """Standardised rows of a table in its units, in double precision: of all numbers that become these, the shortest decimals.

    So numbers of a table come back as they stood there, though single precision does not hold them. Near the mean single
    precision has more numbers for standardised rows than the table has; these get ``DIGITS``, counted from the first digit of
    the column's deviation where the number is larger.
    """
    back = rows.double() * scale + mean
    size = back.abs().clamp_min(1e-9).nan_to_num(1.0).log10().floor().int()
    most = (DIGITS + (size - scale.log10().floor().int()).clamp_min(0)).clamp_max(MOST_DIGITS)
    powers = torch.tensor([float(f"1e{n}") for n in range(23)], dtype=torch.float64)
    found, same = back, torch.zeros_like(back, dtype=torch.bool)
    for digits in range(1, int(most.max()) + 1):
        places = digits - 1 - size
        power = powers[places.abs().clamp_max(22)]
        short = torch.where(places < 0, (back / power).round() * power, (back * power).round() / power)
        becomes = [_forth(mean, scale, read).to(rows.dtype) for read in (short, short.to(rows.dtype))]
        fits = (becomes[0] == rows) | (becomes[1] == rows) | (digits == most)
        found = torch.where(fits & ~same, short, found)
        same |= fits
    return found


def whiten(dataset: Dataset, components: int = 32, scale: float = 1.0) -> Dataset:
    """Pictures normalised for brightness and contrast, then whitened by the principal components of the training rows.

    Args:
        dataset: grey levels in [0, 1].
        components: the number of components that are kept.
        scale: the standard deviation of every component. Models of covariances need less than 1.

    Raises:
        ValueError: the rows are no grey levels, or have fewer components.
    """
    dataset = _grey(dataset)
    whitening = Whitening.of(dataset.train.x, components, scale)
    scaled = "" if scale == 1 else f" times {scale:g}"
    text = f"normalised, {components} whitened components{scaled}"
    space = Space("real", text, whitening.log_determinant, f"real (normalised, {components} components)")
    made = _with_rows(dataset, lambda _, x: whitening.apply(x), space, (components,))
    return replace(made, convert=partial(_whitened, whitening))


def whiten_pixels(dataset: Dataset, epsilon: float = 0.01, scale: float = 1.0, seed: int = 0) -> Dataset:
    r"""Pictures normalised for brightness and contrast, then whitened by a symmetric map, which keeps pixels pixels (ZCA).

    $z = \text{scale}\,(V \mathrm{diag}(\lambda + \epsilon)^{-1/2} V^\top (x - m) + n\, 1 / \sqrt D)$ with the principal
    components V of normalised training rows, their variances $\lambda$ and mean m. Normalised rows have no variance in the
    direction of equal pixels, and a density could grow without bound there; one standard normal n per row, drawn once, fills
    this direction.

    V and $1/\sqrt D$ form a rotation. For $\epsilon = 0$ a density of z is therefore a density of ``whitened`` rows with
    D - 1 components times one of n. Otherwise the log-density of the same rows in those units is greater by
    $\tfrac12 \sum \log \frac{\lambda}{\lambda + \epsilon}$ (which is negative), the difference of the two
    ``Whitening.log_determinant``. Figures for different $\epsilon$ are of different spaces, whose names give $\epsilon$.

    Args:
        dataset: grey levels in [0, 1].
        epsilon: the number added to the variances of components; a normalised pixel has variance 1.
        scale: the standard deviation of every component of large variance.
        seed: the seed of the noise.

    Raises:
        ValueError: the rows are no grey levels, ``epsilon`` is negative, or it is 0 and a component has no variance.

    >>> grey = Split(torch.rand(9, 4, generator=torch.Generator().manual_seed(0)), Space("unit interval", "grey levels"))
    >>> str(whiten_pixels(Dataset("toy", grey, grey, grey, (2, 2))).test.space)
    'real (normalised, whitened pixels, epsilon 0.01)'
    """
    dataset, seed = _grey(dataset), check_seed(seed)
    columns = dataset.train.x.shape[1]
    whitening = Whitening.of(dataset.train.x, columns - 1, scale, epsilon=epsilon)

    change = partial(_whitened_pixels, whitening, scale, seed)
    scaled = "" if scale == 1 else f" times {scale:g}"
    text = f"normalised, whitened pixels{scaled}, epsilon {epsilon:g}"
    log_determinant = whitening.log_determinant + math.log(scale)
    before = f"real (normalised, {columns - 1} components, and one of noise)"
    made = _with_rows(dataset, change, Space("real", text, log_determinant, before), dataset.shape)
    return replace(made, convert=partial(change, "test"))


def _whitened(whitening: Whitening, x: Tensor) -> Tensor:
    """Other rows, whitened."""
    if bool(x.isnan().any()):
        raise ValueError(
            f"whitening mixes the values of a row, and row {int(x.isnan().any(1).nonzero()[0])} has unknown ones; expected whole "
            "rows"
        )
    return whitening.apply(x)


def _whitened_pixels(whitening: Whitening, scale: float, seed: int, part: str, x: Tensor) -> Tensor:
    """Rows of a split as whitened pixels, with noise in the direction of equal ones."""
    noise = torch.randn(len(x), 1, generator=stream("whitened pixels", seed, part))
    return _whitened(whitening, x) @ whitening.components.T + scale * noise / x.shape[1] ** 0.5


def _splits(dataset: Dataset) -> dict[str, Split]:
    return {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}


def _within(split: Split, top: float) -> bool:
    """Whether all known values are in [0, top]."""
    return bool(((split.x >= 0) & (split.x <= top) | split.x.isnan()).all())


def _grey(dataset: Dataset) -> Dataset:
    """The dataset in single precision; refused are bits, or values outside [0, 1]."""
    for part, split in _splits(dataset).items():
        if split.space.support == "binary" or split.x.min() < 0 or split.x.max() > 1:
            raise ValueError(
                f"Dataset {dataset.name!r}: split {part!r} holds {split.space}, from {float(split.x.min()):g} to "
                f"{float(split.x.max()):g}; expected grey levels in [0, 1]."
            )
    return dataset.single()


def _with_rows(
    dataset: Dataset, change: Callable[[str, Tensor], Tensor], space: Space, shape: tuple[int, ...]
) -> Dataset:
    """The dataset with every split's rows changed; ``change`` gets the split's name and its rows."""
    train, valid, test = (Split(change(part, split.x), space, split.labels) for part, split in _splits(dataset).items())
    return Dataset(dataset.name, train, valid, test, shape)
