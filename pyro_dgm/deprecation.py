"""Names and arguments on their way out: they work for a release more, and say what to use instead."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def deprecated(old: str, new: str, since: str, level: int = 2) -> None:
    """Warn that something is deprecated.

    Args:
        old: what was used, as the user wrote it.
        new: what to use instead.
        since: the release that deprecated it; the next minor release may drop it.
        level: callers between this function and the user's line, as of ``warnings.warn``.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as told:
        ...     warnings.simplefilter("always")
        ...     deprecated("dgm.train_model", "dgm.fit", since="0.2.0")
        >>> str(told[0].message)
        'dgm.train_model is deprecated since 0.2.0, and will be removed: use dgm.fit'
    """
    warnings.warn(
        f"{old} is deprecated since {since}, and will be removed: use {new}", FutureWarning, stacklevel=level + 1
    )


def renamed(since: str, **names: str) -> Callable[[F], F]:
    """A function whose arguments had other names, which are still taken, with a warning.

    Args:
        since: the release that renamed them.
        names: the new name by the old one.

    Raises:
        TypeError: at a call, both names of an argument.

    Example:
        >>> @renamed(since="0.2.0", number="n")
        ... def draw(n): return n
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     draw(number=3)
        3
    """

    def wrap(function: F) -> F:
        @functools.wraps(function)
        def taking(*args: Any, **options: Any) -> Any:
            for old, new in names.items():
                if old in options:
                    if new in options:
                        raise TypeError(
                            f"{function.__name__}() got {old} and {new}, two names of one argument: use {new}"
                        )
                    deprecated(f"{old}= of {function.__name__}", f"{new}=", since)
                    options[new] = options.pop(old)
            return function(*args, **options)

        return taking  # type: ignore[return-value]

    return wrap
