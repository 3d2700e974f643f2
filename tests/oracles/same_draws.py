"""The same random numbers in two precisions: what one run draws, the other is given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

RANDOM = torch.Tag.nondeterministic_seeded


class _Recording(TorchDispatchMode):
    def __init__(self, draws: list[torch.Tensor]) -> None:
        super().__init__()
        self.draws = draws

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if RANDOM in func.tags:
            self.draws.append(result.detach().clone())
        return result


class _Replaying(TorchDispatchMode):
    def __init__(self, draws: Iterator[torch.Tensor]) -> None:
        super().__init__()
        self.draws = draws

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return result.copy_(next(self.draws)) if RANDOM in func.tags else result


@contextlib.contextmanager
def _drawn_by_torch(mode: TorchDispatchMode) -> Iterator[None]:
    """All draws as operations of torch, in one dtype or another: compiled loops stand still."""
    with mock.patch("pyro_dgm.native.draws._compiles", return_value=False), mode:
        yield


def recorded(run: Callable[[], Any]) -> tuple[Any, list[torch.Tensor]]:
    """The result of a function, and all tensors that torch drew in it."""
    draws: list[torch.Tensor] = []
    with _drawn_by_torch(_Recording(draws)):
        return run(), draws


def replayed(run: Callable[[], Any], draws: list[torch.Tensor]) -> Any:
    """The result of a function that draws the same tensors in the same order, in any dtype.

    Raises:
        ValueError: it draws fewer.
    """
    ahead = iter(draws)
    with _drawn_by_torch(_Replaying(ahead)):
        result = run()
    if left := len(list(ahead)):
        raise ValueError(f"{left} of {len(draws)} draws were not asked for")
    return result
