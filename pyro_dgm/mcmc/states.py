"""What kernels are given from outside, states and numbers of chains, is looked at before the kernel's own method sees it."""

from __future__ import annotations

import functools
import inspect
import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..checks import check_count, check_memory, described, other_precision
from ..energy.support import unfit

_returned: weakref.WeakKeyDictionary[Any, dict[str, tuple[weakref.ref[Tensor], int]]] = weakref.WeakKeyDictionary()
"""The tensors that a kernel returned last, with their versions: as its next state they need no second look."""


def look_at_arguments(cls: type) -> None:
    """Let the methods of a kernel's class refuse states and numbers of chains that cannot be."""
    for name, looking in (("start", _counting), ("sample", _looking), ("move", _looking)):
        method = vars(cls).get(name)
        if inspect.isfunction(method) and not getattr(method, "__isabstractmethod__", False):
            setattr(cls, name, looking(method))


def _counting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def counting(self: Any, chains: Any) -> Any:
        chains = check_count("chains", chains, what="the number of chains")
        if shape := self.shapes.get(self.visible):
            check_memory({"chains": chains}, shape.numel(), type(self).__name__)
        return method(self, chains)

    return counting


def _looking(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def looking(self: Any, params: Any, *args: Any, **options: Any) -> Any:
        if self.trusted:
            return method(self, params, *args, **options)
        if not _is_own(self, params):
            check_state(self, params)
        self.trusted = True
        try:
            moved = method(self, params, *args, **options)
        finally:
            self.trusted = False
        _returned[self] = {
            layer: (weakref.ref(value), value._version) for layer, value in moved.items() if not value.is_inference()
        }
        return moved

    return looking


def _is_own(kernel: Any, params: Any) -> bool:
    """Whether a state is the one that the kernel returned last, with no entry written over since."""
    own = _returned.get(kernel)
    if own is None or not isinstance(params, Mapping) or own.keys() != params.keys():
        return False
    for layer, (last, version) in own.items():
        value = last()
        if value is None or value is not params[layer] or value._version != version:
            return False
    return True


def check_state(kernel: Any, params: Any) -> None:
    """Refuse what is no state of a kernel's chains (a ``ChainsKernel``).

    Values need not be possible ones: rows of grey levels, as means of bits, may be where a chain starts.

    Raises:
        ValueError: no tensors by layer, a layer that lacks, another shape or precision, or entries that are not finite.
    """
    name, expected = type(kernel).__name__, "a state {layer: tensor}, as start(chains) returns it"
    if not isinstance(params, Mapping):
        raise ValueError(f"{name} got {described(params)}; expected {expected}")
    if lacking := [layer for layer in kernel.shapes if layer not in params]:
        raise ValueError(f"{name} got a state without {lacking}; expected {expected}")
    chains = list[int]()
    for layer, value in params.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"the state of {layer!r} got {described(value)}; expected a tensor")
        shape = kernel.shapes.get(layer, ())
        if value.dim() < len(shape) or value.shape[value.dim() - len(shape) :] != shape:
            raise ValueError(
                f"the state of {layer!r} has shape {tuple(value.shape)}; expected chains x ... x {tuple(shape)}"
            )
        if not value.is_complex() and kernel.dtype not in (None, value.dtype):
            raise ValueError(f"the state of {layer!r} {other_precision(value.dtype, kernel.dtype)}")
        if reason := unfit(value):
            raise ValueError(f"the state of {layer!r} {reason}")
        chains.append(math.prod(value.shape[: value.dim() - len(shape)][:1]))
    if len(set(chains)) > 1:
        raise ValueError(f"the layers of the state have {chains} chains; expected as many for each")
