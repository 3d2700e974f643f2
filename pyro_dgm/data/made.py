"""Data sets that are made, from nothing or from others: pairs of pictures, digits before noise, heartbeats, a swiss roll."""

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

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


ANGLES, DISC_SIDE = (-60, -30, 0, 30, 60), 13
"""Of pairs of discs: the turns, in degrees, and the side of the square that the disc lies in."""


def turned_noise(folder: Path | None) -> Dataset:
    r"""Discs of smooth noise, and the same discs turned: rows $(x, y)$ in which y is x turned by one of five angles.

    The angles are equally likely, and a row's label is the number of its angle. Pixels outside the disc, which a turn would move
    out of sight, are no columns; those of the disc have mean 0 and variance near 1.
    """
    line = torch.linspace(-1, 1, DISC_SIDE)
    disc = line.unsqueeze(1) ** 2 + line**2 <= 1.02
    bell = torch.exp(-(torch.arange(-2.0, 3) ** 2) / (2 * 0.8**2))
    blur = torch.outer(bell, bell) / bell.square().sum()  # keeps the variance of white noise

    def pairs(part: str, rows: int) -> Split:
        generator = stream("turned noise", part)
        white = torch.randn(rows, 1, DISC_SIDE + 4, DISC_SIDE + 4, generator=generator)
        x = F.conv2d(white, blur.expand(1, 1, 5, 5))
        label = torch.randint(len(ANGLES), (rows,), generator=generator)
        angle = torch.tensor(ANGLES)[label] * math.pi / 180
        cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros(rows)
        turn = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
        y = F.grid_sample(x, F.affine_grid(turn, list(x.shape), align_corners=True), align_corners=True)
        return Split(torch.cat([x[:, 0, disc], y[:, 0, disc]], 1), Space("real", "discs of noise, turned"), label)

    columns = (2 * int(disc.sum()),)
    return Dataset("turned_noise", pairs("train", 20000), pairs("valid", 1000), pairs("test", 1000), columns)


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


ROLL_NOISE = 0.02
"""The standard deviation of a swiss roll's points around their curve."""


def roll_curve(angle: Tensor) -> Tensor:
    r"""Points of the spiral $\theta (\cos\theta, \sin\theta)$, moved and scaled.

    For angles uniform on $[3\pi/2, 9\pi/2]$ both columns have mean 0 and variance 1; ``shape`` to ``shape x 2``.

    Example:
        >>> roll_curve(torch.tensor([math.pi * 3])).shape
        torch.Size([1, 2])
    """
    grid = math.pi * (1.5 + 3 * (torch.arange(100_000, dtype=torch.double) + 0.5) / 100_000)
    whole = torch.stack([grid * grid.cos(), grid * grid.sin()], -1)
    mean, scale = whole.mean(0).to(angle), whole.std(0, correction=0).to(angle)
    return (torch.stack([angle * angle.cos(), angle * angle.sin()], -1) - mean) / scale


def swiss_roll(folder: Path | None) -> Dataset:
    r"""Points of the plane around a spiral, with normal noise of standard deviation 0.02 (after Sohl-Dickstein et al. 2015).

    Two columns of mean 0 and variance 1, but for the noise. The law's own log-density has the mean -0.044 nats (by quadrature).
    """

    def points(part: str, rows: int) -> Split:
        generator = stream("swiss roll", part)
        angle = math.pi * (1.5 + 3 * torch.rand(rows, generator=generator))
        noise = ROLL_NOISE * torch.randn(rows, 2, generator=generator)
        return Split(roll_curve(angle) + noise, Space("real", "swiss roll"))

    return Dataset("swiss_roll", points("train", 50000), points("valid", 5000), points("test", 5000), (2,))
