"""A second device that is only claimed: whatever mixes its tensors with the processor's fails, as on a GPU.

Tensors there wrap tensors of the processor, which do the work. So code meets another device on any machine; what this cannot
show is what a GPU's own kernels and random generators do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy", 0)
"""One that this build of torch knows by name and has no kernels for."""

MOVES = {"_to_copy", "copy_"}
INDICES = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""As a GPU, the device takes indices of the processor for its own tensors."""


class _There(torch.Tensor):
    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> _There:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.inner!r} elsewhere"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        return self.inner.tolist()

    def new_tensor(self, data: Any, **options: Any) -> torch.Tensor:
        return self.inner.new_tensor(data, **options).to(DEVICE)


class _Factories(TorchDispatchMode):
    """Sees operations without tensors, which may ask for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Numbers(TorchFunctionMode):
    """Makes tensors from Python's numbers on the processor, and moves them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu").type == DEVICE.type:
            del kwargs["device"]
            return func(*args, **kwargs).to(DEVICE)
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    there = [t for t in given if isinstance(t, _There)]
    if name in INDICES and isinstance(args[0], _There):
        given = [t for t in (args[0], *args[2:3]) if isinstance(t, torch.Tensor)]
    here = [t for t in given if not isinstance(t, _There) and t.dim() > 0]
    if there and here and name not in MOVES:
        raise RuntimeError(
            f"{func} got tensors of the processor, {[tuple(t.shape) for t in here]}, among those elsewhere"
        )
    device = kwargs.get("device")
    inner = tree_map(lambda t: t.inner if isinstance(t, _There) else t, (args, kwargs))
    if device is not None:
        inner[1]["device"] = torch.device("cpu")
    with _disable_current_modes():
        found = func(*inner[0], **inner[1])
    if name == "copy_":
        return args[0]
    if not there if device is None else torch.device(device).type != DEVICE.type:
        return found
    found = tree_map(lambda t: _There(t) if isinstance(t, torch.Tensor) else t, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if there else found


@contextlib.contextmanager
def elsewhere() -> Iterator[torch.device]:
    """Within it ``DEVICE`` is a device like any other."""
    with _Factories(), _Numbers():
        yield DEVICE
