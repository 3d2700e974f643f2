"""Torch's random state: saved to run a program again with the same draws, or so that a run leaves it unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class RandomState:
    """The present state of torch's generators, of the processor and of every CUDA device in use.

    Example:
        >>> import torch
        >>> state = RandomState()
        >>> first = torch.rand(3)
        >>> state.restore()
        >>> torch.equal(first, torch.rand(3))
        True
    """

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore(self) -> None:
        """Set the generators back."""
        torch.set_rng_state(self._cpu)
        for number, state in enumerate(self._devices):
            torch.cuda.set_rng_state(state, number)


@contextmanager
def untouched() -> Iterator[None]:
    """A block after which the random state is as it was before."""
    state = RandomState()
    try:
        yield
    finally:
        state.restore()
