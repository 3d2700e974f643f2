"""Networks whose products are computed in bfloat16, while everything around them stays in single precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def networks(module: nn.Module) -> list[nn.Module]:
    """The networks of a module that multiply: its children, and those of its lists of networks."""
    found = [part for child in module.children() for part in (child if isinstance(child, nn.ModuleList) else [child])]
    return [part for part in found if any(p.dim() > 1 for p in part.parameters())]


@contextlib.contextmanager
def rounded_products(modules: Iterable[nn.Module]) -> Iterator[None]:
    """A block in which calls of the modules compute their products in bfloat16 (``torch.autocast``) and give single precision.

    Example:
        >>> network = nn.Linear(3, 1)
        >>> x = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
        >>> exact = network(x)
        >>> with rounded_products([network]):
        ...     rounded = network(x)
        >>> rounded.dtype, bool((rounded == exact).all()), bool((rounded - exact).abs().max() < 0.01)
        (torch.float32, False, True)
    """
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(_rounding(module))
        yield


@contextlib.contextmanager
def _rounding(module: nn.Module) -> Iterator[None]:
    forward = module.forward

    def rounding(*args: Any, **options: Any) -> Any:
        device = next(module.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            return _single(forward(*args, **options))

    module.__dict__["forward"] = rounding
    try:
        yield
    finally:
        del module.__dict__["forward"]


def _single(result: Any) -> Any:
    """Tensors of bfloat16 in single precision, in whatever they are."""
    if isinstance(result, Tensor):
        return result.float() if result.dtype == torch.bfloat16 else result
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*map(_single, result))
    return type(result)(map(_single, result)) if isinstance(result, list | tuple) else result
