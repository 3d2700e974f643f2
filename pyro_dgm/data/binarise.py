"""The conversion of grey levels to bits, by three conventions whose figures must not be mixed."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from .. import advice
from ..checks import check_seed
from .bits import as_bits, nearer_bits
from .dataset import Dataset, check_dataset
from .space import Space
from .streams import stream

BINARISATIONS = ("threshold", "fixed", "stochastic")
"""The names of the conventions."""


def draw(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Bits that are 1 with probability `grey`, drawn on the generator's device so that every device gets the same.

    NaN stays NaN.

    Args:
        grey: probabilities in [0, 1].
        generator: the source of the uniform numbers.

    >>> draw(torch.tensor([0.0, 1.0]), stream(0))
    tensor([0., 1.])
    """
    uniform = torch.rand(grey.shape, dtype=grey.dtype, generator=generator, device=generator.device)
    return as_bits(uniform.to(grey.device) < grey, grey)


def check_name(how: str) -> None:
    """Refuse an unknown binarisation.

    Raises:
        ValueError: `how` is no binarisation; the message lists all.
    """
    if how not in BINARISATIONS:
        raise ValueError(f"Unknown binarisation {how!r}; expected one of: {', '.join(BINARISATIONS)}.")


def binarise(dataset: Dataset, how: str, seed: int = 0) -> Dataset:
    """Turn a dataset of grey levels into a binary one.

    Args:
        dataset: grey levels in [0, 1].
        how: "threshold" sets pixels above 0.5; "fixed" draws every split once, with the grey level as
            probability; "stochastic" keeps the training split grey and draws it anew in every batch,
            while validation and test are drawn once.
        seed: the seed of the draws of "fixed" and "stochastic".

    Raises:
        ValueError: if `how` is unknown, the dataset or the seed is none, the data are binary already, or a level is outside
            [0, 1].

    >>> from pyro_dgm.data import Split
    >>> grey = Split(torch.tensor([[0.2, 0.9]]), Space("unit interval", "grey levels"))
    >>> binary = binarise(Dataset("toy", grey, grey, grey, (2,)), "threshold")
    >>> binary.train.x, str(binary.train.space)
    (tensor([[0., 1.]]), 'binary (threshold 0.5)')
    """
    check_name(how)
    check_dataset(dataset, "binarise")
    seed = check_seed(seed)
    splits = {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}
    for part, split in splits.items():
        if split.space.support == "binary":
            raise ValueError(
                f"Dataset {dataset.name!r}: split {part!r} is already {split.space}; binarisation {how!r} needs grey levels: "
                "leave the binarisation out."
            )
        _check_grey(f"Dataset {dataset.name!r}: split {part!r}", split.x, how)
    redrawn = ("train",) if how == "stochastic" else ()
    if how == "threshold":
        space = Space("binary", "threshold 0.5")
        bits = {part: nearer_bits(split.x) for part, split in splits.items()}
    else:
        space = Space("binary", f"{how}, seed {seed}")
        bits = {
            part: draw(split.x, stream("binarise", seed, part)) for part, split in splits.items() if part not in redrawn
        }
    binary = {part: replace(split, x=bits.get(part, split.x), space=space) for part, split in splits.items()}
    redraw = draw if how == "stochastic" else None
    return replace(
        dataset, train=binary["train"], valid=binary["valid"], test=binary["test"], redraw=redraw,
        convert=partial(_binarised, how, seed),
    )  # fmt: skip


def _binarised(how: str, seed: int, x: Tensor) -> Tensor:
    """Other rows as bits; those that are bits already stay."""
    if bool(((x == 0) | (x == 1) | x.isnan()).all()):
        return x
    _check_grey("this file", x, how)
    return nearer_bits(x) if how == "threshold" else draw(x, stream("binarise", seed, "test"))


def _check_grey(where: str, x: Tensor, how: str) -> None:
    """Refuse values outside [0, 1]."""
    known = x[~x.isnan()]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    if low < 0 or high > 1:
        raise ValueError(
            f"{where} has values from {low:g} to {high:g}; binarisation {how!r} needs grey levels in [0, 1]. "
            + advice.on_levels(
                x,
                "leave the binarisation out, and bring numbers to bits yourself, as x > 0, or choose a model of real columns",
            )
        )
