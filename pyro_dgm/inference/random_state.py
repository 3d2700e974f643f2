"""The random state: saved to run a program again with the same draws, or so that a run leaves it unchanged."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pyro
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


def python_and_numpy() -> dict[str, Any]:
    """The states of the generators of Python and NumPy, as numbers and texts alone."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 (the one that Pyro seeds)
    return {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}


def set_python_and_numpy(state: dict[str, Any]) -> None:
    """Set the generators of Python and NumPy to what ``python_and_numpy`` returned."""
    random.setstate(state["python"])
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002


@contextmanager
def restored() -> Iterator[None]:
    """A block after which the generators of Python, NumPy and torch are as they were before.

    Example:
        >>> import torch
        >>> state = torch.get_rng_state()
        >>> with restored():
        ...     draws = torch.rand(3)
        >>> torch.equal(torch.get_rng_state(), state)
        True
    """
    others = python_and_numpy()
    with untouched():
        try:
            yield
        finally:
            set_python_and_numpy(others)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A block whose draws start from a seed, after which all generators are as they were before."""
    with restored():
        pyro.set_rng_seed(seed)
        yield


def seeded_by(generator: np.random.RandomState) -> AbstractContextManager[None]:
    """A block as ``seeded``, whose seed a generator of NumPy draws; that one moves on."""
    return seeded(int(generator.randint(np.iinfo(np.int32).max)))
