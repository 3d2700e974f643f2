"""Sequences of unequal length as rows of one matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..checks import check_count, described


def pad(sequences: Sequence[Tensor], length: int | None = None) -> Tensor:
    r"""Sequences of $T_i$ frames as rows of equal width.

    A frame is its D values followed by a mark of existence, 1; frames after the end of a sequence are all 0. A row is these
    T x (D + 1) numbers, frame after frame.

    Args:
        sequences: floating-point tensors, each ``T_i x D``.
        length: T, the number of frames per row; by default that of the longest sequence.

    Returns:
        ``len(sequences) x (T * (D + 1))``.

    Raises:
        ValueError: no sequences; or one that is no floating-point matrix, has no frames, another D than the first, more than
            ``length`` frames, or a value that is NaN or infinite, by its number; or a length that is no whole number.

    Example:
        >>> pad([torch.tensor([[5.0], [6.0]]), torch.tensor([[7.0]])])
        tensor([[5., 1., 6., 1.],
                [7., 1., 0., 0.]])
    """
    check_sequences("pad", sequences)
    for number, sequence in enumerate(sequences):
        _check_sequence(number, sequence, sequences[0])
    longest = max(map(len, sequences))
    if length is not None and (length := check_count("length", length, 0, "the number of frames per row")) < longest:
        number = next(i for i, sequence in enumerate(sequences) if len(sequence) > length)
        raise ValueError(
            f"pad got length={length}, but sequence {number} has {len(sequences[number])} frames; give at least {longest}, "
            "or cut the sequences"
        )
    features = sequences[0].shape[1]
    rows = sequences[0].new_zeros(len(sequences), length or longest, features + 1)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence), :features] = sequence
        row[: len(sequence), features] = 1
    return rows.flatten(1)


def check_sequences(name: str, sequences: Sequence[Tensor]) -> None:
    """Refuse what holds no sequences.

    Raises:
        ValueError: none, or something that has no length.
    """
    if not hasattr(sequences, "__len__"):
        raise ValueError(f"{name} got {described(sequences)}; expected a list of tensors of frames x values")
    if len(sequences) == 0:
        raise ValueError(f"{name} got no sequences; expected at least one tensor of frames x values")


def _check_sequence(number: int, sequence: Tensor, first: Tensor) -> None:
    """Refuse a sequence that cannot be padded together with the first one."""
    if not isinstance(sequence, Tensor) or sequence.ndim != 2 or not sequence.is_floating_point():
        got = f"{sequence.dtype} of shape {tuple(sequence.shape)}" if isinstance(sequence, Tensor) else type(sequence)
        raise ValueError(f"pad: sequence {number} is {got}; expected a floating-point tensor of frames x values")
    if len(sequence) == 0:
        raise ValueError(f"pad: sequence {number} has no frames; every sequence needs at least one, so leave it out")
    if sequence.shape[1] == 0 or sequence.shape[1] != first.shape[1]:
        raise ValueError(
            f"pad: sequence {number} has {sequence.shape[1]} values per frame and sequence 0 has {first.shape[1]}; expected "
            "the same number, at least one, in all"
        )
    bad = ~torch.isfinite(sequence).all(1)
    if bad.any():
        raise ValueError(
            f"pad: sequence {number} has a NaN or infinite value, first in frame {int(bad.nonzero()[0])}; impute it, or "
            "leave the sequence out"
        )


def unpad(rows: Tensor, features: int) -> tuple[Tensor, Tensor]:
    """The frames of padded rows, and whether each exists: the inverse of ``pad``.

    Args:
        rows: ``... x (T * (features + 1))``, as ``pad`` makes them.
        features: D, the number of values per frame.

    Returns:
        The values, ``... x T x D``, and the booleans ``present``, ``... x T``.

    Raises:
        ValueError: no tensor; a width that is no multiple of D + 1; a sequence with a NaN or infinite value, with marks of
            existence that are not ones followed by zeros, without frames, or with values other than 0 after its end. The
            message gives its number.

    Example:
        >>> values, present = unpad(torch.tensor([[5.0, 1.0, 6.0, 1.0], [7.0, 1.0, 0.0, 0.0]]), features=1)
        >>> [frames[exists].flatten().tolist() for frames, exists in zip(values, present)]
        [[5.0, 6.0], [7.0]]
    """
    if not isinstance(rows, Tensor):
        raise ValueError(f"got {described(rows)}; expected a tensor of rows, as dgm.data.pad makes them")
    features = check_count("features", features, 0, "the number of values per frame")
    width = rows.shape[-1] if rows.ndim else 0
    if features < 1 or width == 0 or width % (features + 1):
        raise ValueError(
            f"got rows of {width} columns for features={features}; expected rows x (frames * (features + 1)), with one "
            "column per frame that says whether it exists, as dgm.data.pad makes them"
        )
    values, present = split_frames(rows, features)
    marks = rows.unflatten(-1, (-1, features + 1))[..., -1]
    _refuse(~torch.isfinite(rows).all(-1), "has NaN or infinite values; impute them, or leave the sequence out")
    _refuse(
        ((marks != 0) & (marks != 1)).any(-1) | (present[..., 1:] & ~present[..., :-1]).any(-1),
        "has columns of existence (the last of every frame) other than ones followed by zeros; make the rows with "
        "dgm.data.pad",
    )
    _refuse(~present[..., 0], "has no frames; every sequence needs at least one, so leave it out")
    _refuse(
        ((values != 0).any(-1) & ~present).any(-1),
        "has values after its end; expected 0 there. Make the rows with dgm.data.pad",
    )
    return values, present


def checked_frames(rows: Tensor, features: int) -> tuple[Tensor, Tensor]:
    """``unpad`` with only two checks, the quick ones: the width, and that every sequence has a frame.

    Raises:
        ValueError: as ``unpad``.
    """
    if rows.shape[-1] == 0 or rows.shape[-1] % (features + 1):
        return unpad(rows, features)
    values, present = split_frames(rows, features)
    return (values, present) if bool(present[..., 0].all()) else unpad(rows, features)


def split_frames(rows: Tensor, features: int) -> tuple[Tensor, Tensor]:
    """``unpad`` without its checks.

    >>> split_frames(torch.tensor([[5.0, 1.0, 0.0, 0.0]]), 1)[1]
    tensor([[ True, False]])
    """
    frames = rows.unflatten(-1, (-1, features + 1))
    return frames[..., :-1], frames[..., -1] > 0.5


def join_frames(values: Tensor, present: Tensor) -> Tensor:
    """Rows made of values, ``... x T x D``, and of the booleans ``present``, ``... x T``: the inverse of ``split_frames``.

    >>> join_frames(torch.tensor([[[5.0], [0.0]]]), torch.tensor([[True, False]]))
    tensor([[5., 1., 0., 0.]])
    """
    marks = present.unsqueeze(-1).expand(*values.shape[:-1], 1)
    return torch.cat([values, marks.to(values)], -1).flatten(-2)


def _refuse(bad: Tensor, problem: str) -> None:
    """Name the first sequence with a problem, if ``bad``, one boolean per sequence, has any."""
    if bad.any():
        raise ValueError(f"sequence {int(bad.flatten().nonzero()[0])} {problem}")
