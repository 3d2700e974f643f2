"""Piano rolls in other keys."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..checks import check_count
from .dataset import Dataset
from .sequences import join_frames, split_frames, unpad


def transposed(dataset: Dataset, features: int, lowest: int = -5, highest: int = 6) -> Dataset:
    """A data set of piano rolls whose training sequences are moved to another key whenever they are visited.

    Each sequence of a batch is moved as a whole, by a number of semitones that is drawn uniformly. Validation and test rows
    stay as they are, and so does the space: a model of twelve times as many tunes is measured on the same ones.

    Args:
        dataset: padded rows, as ``pad`` makes them.
        features: the number of tones of a frame.
        lowest: the lowest move in semitones; moves below zero go down.
        highest: the highest one.

    Raises:
        ValueError: rows that are no padded sequences of such frames; ``lowest`` above ``highest``; a move by which tones of
            training sequences would leave the frame.

    Example:
        >>> import torch
        >>> from pyro_dgm.data import Dataset, Space, Split, pad
        >>> rows = Split(pad([torch.tensor([[0.0, 1.0, 0.0]])]), Space("binary"))
        >>> moved = transposed(Dataset("toy", rows, rows, rows, (1, 4)), features=3, lowest=1, highest=1)
        >>> next(moved.batches(epoch=0, batch_size=1, seed=0))
        tensor([[0., 0., 1., 1.]])
    """
    features = check_count("features", features, what="the tones of a frame")
    lowest = check_count("lowest", lowest, -features, "the lowest move in semitones")
    highest = check_count("highest", highest, -features, "the highest move in semitones")
    used = unpad(dataset.train.x, features)[0].flatten(0, -2).any(0).nonzero()
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, features - 1)
    if lowest > highest or first + lowest < 0 or last + highest >= features:
        raise ValueError(
            f"transposed got moves from {lowest} to {highest}; expected a range within {-first} to {features - 1 - last}: the "
            f"sequences have tones from {first} to {last} of {features}, which must not leave the frame"
        )
    return replace(dataset, redraw=partial(_moved, features, lowest, highest))


def _moved(features: int, lowest: int, highest: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """Padded rows, each moved by a number of columns of its own."""
    values, present = split_frames(x, features)
    moves = torch.randint(lowest, highest + 1, (len(x), 1, 1), generator=generator).to(x.device)
    source = (torch.arange(features, device=x.device) - moves) % features  # what would come in from the edge is 0
    return join_frames(values.gather(-1, source.expand(values.shape)), present)
