"""Progress of long work: a bar in a terminal or a notebook; a plain line now and then in a file, such as a cluster's log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

T = TypeVar("T")

DELAY = 2.0
"""Seconds that work may take without a bar."""

EVERY = 30.0
"""Seconds between two lines at least, where there are lines in place of a bar."""

SILENCE = 600.0
"""Seconds without a line after which work in parts, such as epochs, says how far it is within one."""

_shown: ContextVar[bool] = ContextVar("shown", default=False)


@contextlib.contextmanager
def shown(show: bool = True) -> Iterator[None]:
    """A block in which work that takes longer than ``DELAY`` shows bars on standard error; outside of it nothing does."""
    token = _shown.set(show)
    try:
        yield
    finally:
        _shown.reset(token)


class Bar(Protocol):
    """What shows how far some work is: use it in a ``with`` block."""

    def advance(self, count: int = 1) -> None:
        """So many more steps are done."""

    def rename(self, what: str) -> None:
        """The steps from here on are these."""

    def report(self, part: str, figures: Mapping[str, str]) -> None:
        """A part of the work is done, with figures."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def bar(
    total: int | None,
    what: str,
    *,
    show: bool = True,
    initial: int = 0,
    parts: bool = False,
    **drawn: Any,
) -> Bar:
    """A bar on standard error, or lines where that is no terminal and no notebook.

    Args:
        total: the number of steps, if it is known.
        what: what the steps are, in the plural; they may be renamed.
        show: False for one that shows nothing.
        initial: the steps that were done before.
        parts: whether parts of the work are reported; between reports, lines are few.
        drawn: other arguments of ``tqdm``, for the bar alone.

    Example:
        >>> with bar(2, "sweeps", show=False) as shows:
        ...     shows.advance()
    """
    if show and not _draws(sys.stderr):
        return _Lines(total, what, initial, parts)
    return _Drawn(total=total, initial=initial, disable=not show, **({} if parts else {"desc": what}), **drawn)


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
    return _watched(work, what, total) if _shown.get() else work


def _watched(work: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    count = len(work) if total is None and isinstance(work, Sized) else total
    token = _shown.set(False)
    try:
        with bar(count, what, delay=DELAY, leave=False, dynamic_ncols=True) as shows:
            for step in work:
                yield step
                shows.advance()
    finally:
        with contextlib.suppress(ValueError):  # a generator that is dropped may end in another context
            _shown.reset(token)


def _draws(stream: Any) -> bool:
    """Whether a stream can draw a line anew: a terminal, or a notebook's cell."""
    return bool(stream is not None and stream.isatty()) or type(stream).__module__.startswith("ipykernel")


class _Drawn:
    """A bar of ``tqdm``."""

    def __init__(self, **drawn: Any) -> None:
        from tqdm import tqdm

        self._bar = tqdm(**drawn)

    def advance(self, count: int = 1) -> None:
        self._bar.update(count)

    def rename(self, what: str) -> None:
        self._bar.set_description(what)

    def report(self, part: str, figures: Mapping[str, str]) -> None:
        self._bar.set_postfix(figures, refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.close()


class _Lines:
    """Lines on standard error, ``EVERY`` seconds apart at least; of work in parts also the first part's and the last one's."""

    def __init__(self, total: int | None, what: str, initial: int, parts: bool) -> None:
        self._total, self._what, self._initial, self._parts = total, what, initial, parts
        self._done, self._begun = initial, time.monotonic()
        self._written: float | None = None
        self._left: str | None = None

    def advance(self, count: int = 1) -> None:
        self._done += count
        if self._silent_for(SILENCE if self._parts and self._written is not None else EVERY):
            of = "" if self._total is None else f" of {self._total}"
            self._write(f"{self._what}: {self._done}{of}{self._time()}")

    def rename(self, what: str) -> None:
        self._what = what

    def report(self, part: str, figures: Mapping[str, str]) -> None:
        line = f"{part}{self._time()}: {', '.join(f'{name} {figure}' for name, figure in figures.items())}"
        if self._written is None or self._silent_for(EVERY):
            self._write(line)
        else:
            self._left = line

    def _silent_for(self, seconds: float) -> bool:
        return time.monotonic() - (self._begun if self._written is None else self._written) >= seconds

    def _time(self) -> str:
        """The time that was taken, and what the rest will take at that pace."""
        gone, done = time.monotonic() - self._begun, self._done - self._initial
        still = 0 if self._total is None else self._total - self._done
        rest = f", {_clock(gone / done * still)} left" if done and still > 0 else ""
        return f" ({_clock(gone)}{rest})"

    def _write(self, line: str) -> None:
        if sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)
        self._left, self._written = None, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._left is not None:
            self._write(self._left)


def _clock(seconds: float) -> str:
    """A time as a clock shows it.

    >>> _clock(75), _clock(3675)
    ('01:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
