"""Products in bfloat16: torch's switch for them, the check of who may ask for them, and who must not get them unasked."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from .processor import multiplies_bfloat16


@contextlib.contextmanager
def bfloat16_products() -> Iterator[None]:
    r"""A block in which products of single-precision matrices round their factors to bfloat16 and add up in single precision.

    It sets torch's own switch for oneDNN, and restores it at the end. States of bits and spins are bfloat16 numbers already, so
    that only weights are rounded, each by at most $2^{-8}$ of itself; real-valued states are rounded too.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def rounds_products() -> bool:
    """Whether products of single-precision matrices round their factors at present."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    return matmul is not None and matmul.fp32_precision == "bf16"


PRECISIONS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "float32": contextlib.nullcontext,
    "bfloat16": bfloat16_products,
}


def has_bfloat16_products() -> bool:
    """Whether ``bfloat16_products`` makes products faster: the processor has units for them and torch the switch (2.9)."""
    return multiplies_bfloat16() and hasattr(torch.backends.mkldnn, "matmul")


def check_precision(precision: str, like: Tensor) -> None:
    """Refuse an unknown precision, and bfloat16 products where they would not be faster.

    Args:
        precision: one of ``PRECISIONS``.
        like: a parameter.

    Raises:
        ValueError: an unknown precision; bfloat16 with parameters of another precision than single, or elsewhere than on a
            processor with units for it.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision got {precision!r}; expected one of {', '.join(map(repr, PRECISIONS))}")
    if precision != "bfloat16":
        return
    if like.dtype != torch.float32 or like.device.type != "cpu":
        raise ValueError(
            f"precision='bfloat16' got parameters of {like.dtype} on {like.device}; expected torch.float32 on cpu (on a GPU "
            "use torch.set_float32_matmul_precision)"
        )
    if not has_bfloat16_products():
        raise ValueError(
            "precision='bfloat16' needs a processor with units for products of bfloat16 matrices (amx_bf16 among its flags) and "
            "torch 2.9 or later; here it would be slower than 'float32': use that"
        )


P = ParamSpec("P")
R = TypeVar("R")


def out_of_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """The function with ``torch.autocast`` switched off inside: figures and energies are differences that half precision loses.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     out_of_autocast(torch.mm)(torch.ones(2, 2), torch.ones(2, 2)).dtype
        torch.float32
    """

    @functools.wraps(function)
    def outside(*args: P.args, **options: P.kwargs) -> R:
        types = [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]
        if not types:
            return function(*args, **options)
        with contextlib.ExitStack() as stack:
            for device in types:
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **options)

    return outside
