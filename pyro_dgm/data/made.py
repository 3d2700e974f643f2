"""Data sets that are made, from nothing or from others: pairs of pictures, digits before noise, heartbeats."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .dataset import Dataset, Split
from .space import Space
from .streams import stream

SIDE, DENSITY, REACH = 10, 0.1, 1
"""Of pairs of dots: the side of a picture, the share of dots in it, and the farthest that it moves in each direction."""


def shifted_dots(folder: Path | None) -> Dataset:
    r"""Pictures of random dots, and the same pictures moved: rows $(x, y)$ in which y is x moved round a torus.

    The nine moves of at most one pixel in each direction are equally likely, and a row's label is the number of its move. Where a
    picture tells its moves apart, $\log p(y \mid x) = -\log 9$ is the best that a model can have.
    """
    moves = [(down, right) for down in range(-REACH, REACH + 1) for right in range(-REACH, REACH + 1)]

    def pairs(part: str, rows: int) -> Split:
        generator = stream("shifted dots", part)
        x = (torch.rand(rows, SIDE, SIDE, generator=generator) < DENSITY).float()
        label = torch.randint(len(moves), (rows,), generator=generator)
        y = torch.empty_like(x)
        for number, move in enumerate(moves):
            y[label == number] = x[label == number].roll(move, (1, 2))
        return Split(torch.cat([x.flatten(1), y.flatten(1)], 1), Space("binary", "dots, moved"), label)

    return Dataset("shifted_dots", pairs("train", 20000), pairs("valid", 1000), pairs("test", 1000), (2 * SIDE, SIDE))


def before_noise(digits: Dataset) -> Dataset:
    """Grey pictures whose background, the pixels at 0, is replaced by uniform noise, drawn once.

    Of the training rows the first 10,000 stay, and of the validation rows the first 2000, the sizes of the published task.
    """

    def noisy(part: str, split: Split) -> Split:
        noise: Tensor = torch.rand(split.x.shape, generator=stream("random background", part))
        return replace(
            split, x=torch.where(split.x > 0, split.x, noise), space=Space("unit interval", "digits before noise")
        )

    train, valid = noisy("train", digits.train[:10000]), noisy("valid", digits.valid[:2000])
    return Dataset(f"{digits.name}_before_noise", train, valid, noisy("test", digits.test), digits.shape)


def heartbeat(folder: Path | None) -> Dataset:
    r"""Rows of 20 bits with a one at every fifth, from one of the first five on (Sohl-Dickstein et al. 2015).

    The five rows are equally likely, so that no model has more than $-\log_2 5 = -2.3219$ bits. Labels are the first one's place.
    """

    def beats(part: str, rows: int) -> Split:
        first = torch.randint(5, (rows,), generator=stream("heartbeat", part))
        return Split((torch.arange(20) % 5 == first.unsqueeze(1)).float(), Space("binary", "heartbeat"), first)

    return Dataset("heartbeat", beats("train", 10000), beats("valid", 1000), beats("test", 1000), (20,))
