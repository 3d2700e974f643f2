"""Checks of arguments; every message says what was got, what was expected and what to do."""

from __future__ import annotations

import math
import operator
import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 200
"""Characters of a value up to which messages show it in full."""


def described(value: Any) -> str:
    """A value in a few words: of what holds many numbers its type and shape alone.

    >>> described([[1, 2], [3, 4]])
    'a list of length 2'
    """
    kind = type(value).__name__
    article = "an" if kind[0].lower() in "aeiou" or kind == "ndarray" else "a"
    if hasattr(value, "shape"):
        dtype = f", {value.dtype}" if hasattr(value, "dtype") else ""
        return f"{article} {kind} of shape {tuple(value.shape)}{dtype}"
    if hasattr(value, "__len__") and not isinstance(value, str | type):
        return f"{article} {kind} of length {len(value)}"
    return reprlib.repr(value) if isinstance(value, int | float | str | type | None) else f"{article} {kind}"


def shown(value: Any) -> str:
    """A value for a message: as it is written if that is short and one line, else in a few words.

    >>> shown((200, 0)), shown([0.5] * 1000)
    ('(200, 0)', 'a list of length 1000')
    """
    text = repr(value)
    part = hasattr(value, "shape") and "..." in text  # arrays leave their middle out
    return text if len(text) <= LONGEST and "\n" not in text and not part else described(value)


def check_count(name: str, value: Any, least: int = 1, what: str = "", why: str = "") -> int:
    """The value as an ``int``, if it is a whole number (of Python or NumPy, not a boolean) of at least ``least``.

    Args:
        name: the name of the argument in the message.
        value: the value that was given.
        least: the smallest value that is accepted.
        what: what the argument counts, as in ``"the number of bins"``.
        why: words that follow "at least ..." in the message.

    Raises:
        ValueError: the value is no whole number, or smaller.

    Example:
        >>> check_count("bins", 20, what="the number of bins")
        20
        >>> check_count("bins", True, what="the number of bins")
        Traceback (most recent call last):
        ...
        ValueError: bins got True; expected the number of bins, an integer of at least 1
    """
    number = _whole(value)
    if number is None or number < least:
        expected = f"{what}, an integer" if what else "an integer"
        raise ValueError(f"{name} got {shown(value)}; expected {expected} of at least {least}{why}")
    return number


def check_counts(
    name: str, values: Any, what: str = "the units of every hidden layer", example: str = "(200, 200)", fewest: int = 1
) -> tuple[int, ...]:
    """The values as a tuple, if they are whole numbers of at least one, such as the units of every layer.

    Args:
        name: the name of the argument in the message.
        values: the values that were given.
        what: what they count.
        example: a value that would be accepted, for the message.
        fewest: the smallest number of values that is accepted.

    Raises:
        ValueError: no sequence, too few values, or one that is no whole number of at least one.

    Example:
        >>> check_counts("hidden", [64, 32])
        (64, 32)
        >>> check_counts("hidden", 64)
        Traceback (most recent call last):
        ...
        ValueError: hidden got 64; expected the units of every hidden layer, integers of at least 1, as in hidden=(200, 200)
    """
    numbers = [_whole(value) for value in values] if isinstance(values, Iterable) else [None]
    counts = tuple(number for number in numbers if number is not None and number >= 1)
    if len(counts) < max(len(numbers), fewest):
        raise ValueError(f"{name} got {shown(values)}; expected {what}, integers of at least 1, as in {name}={example}")
    return counts


def _whole(value: Any) -> int | None:
    """The value as an ``int``; None if it is no whole number."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except (TypeError, RuntimeError):
        return None


def check_memory(values: Mapping[str, Any], columns: int, owner: str, what: str = "data of {} columns") -> None:
    """Refuse counts, such as units, chains or particles, of which each has a number per column: more than memory holds.

    Args:
        values: options by name, of which integers and lists of integers are counts.
        columns: the number of columns of the data.
        owner: the name of what takes the options, for the message.
        what: what the columns are of, for the message.

    Raises:
        ValueError: a count (or two neighbours in a list, such as the units of layers that meet) that asks for more than the
            machine's memory in single precision.

    >>> check_memory({"hidden": 10**15}, 64, "RBM")
    Traceback (most recent call last):
    ...
    ValueError: RBM: hidden got 1000000000000000, which asks for 2.56e+08 GB for data of 64 columns; choose a smaller number
    """
    most = memory()
    for name, value in values.items():
        counts = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(count, int) for count in counts):
            continue
        for below, count in zip((columns, *counts), counts, strict=False):
            if (size := 4 * abs(count) * max(below, 1)) > most:
                raise ValueError(
                    f"{owner}: {name} got {reprlib.repr(value)}, which asks for {size / 1e9:.3g} GB for {what.format(columns)}; "
                    "choose a smaller number"
                )


def memory() -> int:
    """The machine's memory in bytes; 1 TB where it cannot be told."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 10**12


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse a name that is not among the choices.

    >>> check_choice("unit", "ternary", ["binary", "spin"])
    Traceback (most recent call last):
    ...
    ValueError: unit got 'ternary'; expected one of binary, spin
    """
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} got {shown(value)}; expected one of {', '.join(known)}")


def check_belongs(name: str, chosen: str, owners: Iterable[str], **options: Any) -> None:
    """Refuse options that were given (are not None) although the choice ``name=chosen`` has no use for them.

    >>> check_belongs("kind", "cd", ["pcd"], chains=50)
    Traceback (most recent call last):
    ...
    ValueError: chains got 50 with kind='cd'; it belongs to kind='pcd': leave it out
    """
    known = tuple(owners)
    for option, value in options.items():
        if value is not None and chosen not in known:
            places = " or ".join(f"{name}={owner!r}" for owner in known)
            raise ValueError(
                f"{option} got {shown(value)} with {name}={chosen!r}; it belongs to {places}: leave it out"
            )


def check_share(name: str, value: Any, what: str, zero: bool = False) -> None:
    """Refuse a share that is not between 0 and 1; with ``zero`` it may be 0.

    >>> check_share("decay", 1.0, "the share that a step keeps", zero=True)
    Traceback (most recent call last):
    ...
    ValueError: decay got 1.0; expected the share that a step keeps, in [0, 1)
    """
    number = _number(value)
    if not (0 < number < 1 or (zero and number == 0)):
        raise ValueError(f"{name} got {shown(value)}; expected {what}, in {'[' if zero else '('}0, 1)")


def check_positive(name: str, value: Any, what: str, zero: bool = False) -> None:
    """Refuse a value that is no finite number above 0; with ``zero`` it may be 0.

    >>> check_positive("spread", -1, "the standard deviation of the first weights")
    Traceback (most recent call last):
    ...
    ValueError: spread got -1; expected the standard deviation of the first weights, a finite number above 0
    """
    number = _number(value)
    if not (0 < number < math.inf or (zero and number == 0)):
        raise ValueError(
            f"{name} got {shown(value)}; expected {what}, a finite number {'of at least' if zero else 'above'} 0"
        )


def _number(value: Any) -> float:
    """The value as a ``float``; NaN if it is no number."""
    try:
        return math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError, RuntimeError):
        return math.nan


def check_seed(seed: Any) -> int:
    """The seed of random numbers as an ``int``, if all generators take it.

    >>> check_seed(-1)
    Traceback (most recent call last):
    ...
    ValueError: seed got -1; expected an integer from 0 to 4294967295
    """
    number = _whole(seed)
    if number is None or not 0 <= number < 1 << 32:
        raise ValueError(f"seed got {shown(seed)}; expected an integer from 0 to {(1 << 32) - 1}")
    return number


def check_columns(visible: Any, fewest: int = 1) -> int:
    """The number of columns of the data, checked.

    >>> check_columns(784)
    784
    """
    return check_count("visible", visible, fewest, "the number of columns")


def check_orders(orders: Any) -> int:
    """The number of orders that a model averages, checked.

    >>> check_orders(16)
    16
    """
    return check_count("orders", orders, what="the number of orders that are averaged")


def check_rows(x: Any, event_shape: Sequence[int], name: str, missing: bool = False) -> None:
    """Refuse data that are empty, of the wrong shape, or not finite.

    Args:
        x: rows, ``n x event_shape``.
        event_shape: the shape of a row.
        name: the name of what takes them, for the message.
        missing: whether a row may have NaN, but not NaN alone.

    Raises:
        ValueError: no tensor, another shape, no row, or entries that are NaN or infinite.

    Example:
        >>> import torch
        >>> check_rows(torch.zeros(2, 3), (4,), "base")
        Traceback (most recent call last):
        ...
        ValueError: base got data of shape (2, 3); expected rows x (4,)
    """
    import torch

    shape = tuple(event_shape)
    if not isinstance(x, torch.Tensor):
        raise ValueError(f"{name} got data of type {type(x).__name__}; expected a tensor, rows x {shape}")
    if x.dim() != 1 + len(shape) or tuple(x.shape[1:]) != shape:
        raise ValueError(f"{name} got data of shape {tuple(x.shape)}; expected rows x {shape}")
    if len(x) == 0:
        raise ValueError(f"{name} got empty data; expected at least one row")
    if bool(torch.isfinite(x.detach().sum())):  # then every entry is finite
        return
    empty = x.isnan().flatten(1).all(1)
    if missing and empty.any():
        raise ValueError(f"{name} got NaN alone in row {int(empty.nonzero()[0])}; drop rows without any known value")
    bad = ~torch.isfinite(torch.where(x.isnan(), 0.0, x) if missing else x).flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"{name} got NaN or infinite values, first in row {int(bad.nonzero()[0])}; drop or impute those rows"
        )


def other_precision(got: Any, own: Any) -> str:
    """What to say of values of another type than a model's parameters.

    >>> import torch
    >>> other_precision(torch.int64, torch.float32)
    'got values of torch.int64; expected torch.float32, as the parameters are. Convert the values, x.to(torch.float32)'
    """
    other = f", or the model, model.to({got})" if got.is_floating_point else ""
    return f"got values of {got}; expected {own}, as the parameters are. Convert the values, x.to({own}){other}"


def check_one_hot(labels: Tensor, name: str) -> None:
    """Refuse labels, ``rows x classes``, unless every row has a single 1 among zeros.

    Args:
        labels: the last columns of data rows.
        name: the name of the model, for the message.

    Raises:
        ValueError: some row has no class, or several.

    Example:
        >>> import torch
        >>> check_one_hot(torch.eye(3), "DBM")
    """
    if not (((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()):
        raise ValueError(
            f"{name} got labels that are not one-hot in the last {labels.shape[1]} columns; expected a single 1 in each row. "
            "dataset.labelled(classes), or --classes, appends them"
        )
