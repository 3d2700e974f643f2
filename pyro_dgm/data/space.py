"""The space that a figure such as a log-likelihood refers to."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Space:
    """The set of values that data take, and how the values were made; figures compare only within one space.

    Args:
        support: the set of values, such as "binary", "unit interval" or "real".
        preprocessing: how the values were made, such as "fixed" or "standardised".
        log_determinant: the log-determinant, in nats a row, of the map that made the values from those before: the mean
            log-density of the latter is that of these values plus this.
        before: the name of the space of the values before, or None where the map has no log-determinant.
        ceiling: the mean log-density, in nats a row, that no law passes on rows that it has not seen; of dequantised columns of
            256 levels before their scaling it is log 256 a column.

    Raises:
        ValueError: if `support` is empty.

    >>> str(Space("binary", "fixed"))
    'binary (fixed)'
    >>> str(Space("real"))
    'real'
    """

    support: str
    preprocessing: str = ""
    log_determinant: float = field(default=0.0, compare=False)
    before: str | None = field(default=None, compare=False)
    ceiling: float = field(default=math.inf, compare=False)

    def __post_init__(self) -> None:
        if not self.support.strip():
            raise ValueError(f"Space got support {self.support!r}; give a name such as 'binary' or 'real'.")

    def __str__(self) -> str:
        return f"{self.support} ({self.preprocessing})" if self.preprocessing else self.support

    def same_as(self, other: "Space") -> bool:
        """Whether figures of this space and of `other` may be compared.

        >>> Space("binary", "fixed").same_as(Space("binary", "threshold 0.5"))
        False
        """
        return self == other
