"""Progress bars of long work: the work says how far it is, and a bar shows where a caller asked for one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

DELAY = 2.0
"""Seconds that work may take without a bar."""

_shown: ContextVar[bool] = ContextVar("shown", default=False)


@contextlib.contextmanager
def shown(show: bool = True) -> Iterator[None]:
    """A block in which work that takes longer than ``DELAY`` shows bars on standard error; outside of it nothing does."""
    token = _shown.set(show)
    try:
        yield
    finally:
        _shown.reset(token)


def steps(work: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """The same work, with a bar where one is to be shown; only the outermost of nested bars is.

    Args:
        work: the steps.
        what: what they are, in the plural.
        total: their number, where ``work`` does not know it.

    Example:
        >>> list(steps(range(3), "sweeps"))
        [0, 1, 2]
    """
    return _bar(work, what, total) if _shown.get() else work


def _bar(work: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    from tqdm import tqdm

    bar = tqdm(work, desc=what, total=total, delay=DELAY, leave=False, dynamic_ncols=True)
    token = _shown.set(False)
    try:
        yield from bar
    finally:
        bar.close()
        with contextlib.suppress(ValueError):  # a generator that is dropped may end in another context
            _shown.reset(token)
