"""Windows of sequences: every frame with the frames before it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..checks import check_count
from .dataset import Dataset, Split
from .sequences import check_sequences, unpad
from .space import Space


def windows(sequences: Sequence[Tensor], order: int) -> Tensor:
    """Rows of ``order`` frames and the frame after them, the oldest first, from every place of every sequence.

    No window crosses from one sequence into another, and the first ``order`` frames of a sequence are in inputs alone.

    Args:
        sequences: tensors, each ``T_i x D``.
        order: the number of frames before a frame; 0 for single frames.

    Returns:
        ``windows x (order + 1) D``, where sequence i has ``T_i - order`` windows.

    Raises:
        ValueError: no sequences, one that is no matrix or has another D, or one of ``order`` frames or fewer.

    Example:
        >>> windows([torch.tensor([[1.0], [2.0], [3.0], [4.0]])], order=2)
        tensor([[1., 2., 3.],
                [2., 3., 4.]])
    """
    order = check_count("order", order, 0, "the frames before a frame")
    check_sequences("windows", sequences)
    for number, sequence in enumerate(sequences):
        if not isinstance(sequence, Tensor) or sequence.dim() != 2 or sequence.shape[1] != sequences[0].shape[-1]:
            got = tuple(sequence.shape) if isinstance(sequence, Tensor) else type(sequence).__name__
            raise ValueError(
                f"windows got {got} as sequence {number}; expected frames x values, alike in all sequences"
            )
        if len(sequence) <= order:
            raise ValueError(
                f"sequence {number} has {len(sequence)} frames; expected more than order={order}. Leave it out, or choose a "
                "smaller order"
            )
    return torch.cat([sequence.unfold(0, order + 1, 1).mT.flatten(1) for sequence in sequences])


def windowed(dataset: Dataset, features: int, order: int) -> Dataset:
    """The windows of a data set's padded sequences: every frame after the first ``order`` of its sequence is one row.

    Args:
        dataset: padded rows, as ``pad`` makes them.
        features: the number of values of a frame.
        order: the number of frames before a frame.

    Raises:
        ValueError: rows that are no padded sequences of such frames, or a sequence of ``order`` frames or fewer.

    Example:
        >>> from pyro_dgm.data import Dataset, Space, Split, pad
        >>> rows = Split(pad([torch.tensor([[1.0], [2.0], [3.0]])]), Space("real"))
        >>> windowed(Dataset("toy", rows, rows, rows, (6,)), features=1, order=1).test.x
        tensor([[1., 2.],
                [2., 3.]])
    """
    features = check_count("features", features, what="the values of a frame")

    def changed(split: Split) -> Split:
        rows = _windows_of_padded(features, order, split.x)
        rows_are = f"windows of {order + 1} frames" if order else "single frames"
        parts = [split.space.preprocessing] * bool(split.space.preprocessing) + [rows_are]
        return Split(rows, Space(split.space.support, ", ".join(parts)))

    train, valid, test = changed(dataset.train), changed(dataset.valid), changed(dataset.test)
    convert = partial(_windows_of_padded, features, order)
    return Dataset(dataset.name, train, valid, test, (order + 1, features), convert=convert)


def _windows_of_padded(features: int, order: int, x: Tensor) -> Tensor:
    """The windows of padded sequences."""
    values, present = unpad(x, features)
    return windows([frames[exists] for frames, exists in zip(values, present, strict=True)], order)
