"""The two hot operations of a Gibbs sweep: an affine map and exact random bits."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

_SCALE, _OFFSET = 65536.0, 32768.0


def bernoulli(logits: Tensor) -> Tensor:
    r"""Bits with $P(1) = \sigma(\text{logits})$, on the dtype and device of ``logits``.

    Sixteen random bits decide each draw; where they tie with the threshold $65536\,p$ a fresh double-precision uniform
    decides on its fraction. So P(1) is the floating-point $p$ up to $2^{-16} \cdot 2^{-53}$, at a third of the random
    numbers that ``rand < p`` spends.

    Args:
        logits: any shape.

    Example:
        >>> import torch
        >>> bernoulli(torch.tensor([-torch.inf, torch.inf]))
        tensor([0., 1.])
    """
    logits = logits.detach()
    return bernoulli_(torch.sigmoid(logits))


def bernoulli_(p: Tensor) -> Tensor:
    """Overwrite probabilities by bits drawn with them; returns the same tensor."""
    if p.device.type != "cpu" or not p.is_contiguous() or p.numel() < 4096:
        return p.copy_(torch.rand_like(p, dtype=torch.float64) < p)
    flat = p.view(-1)
    words = torch.empty((flat.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    flat.mul_(_SCALE).sub_(words.view(torch.int16)[: flat.numel()].to(flat.dtype).add_(_OFFSET)).clamp_(0, 1)
    tied = (flat != flat.round()).nonzero().view(-1)
    if tied.numel():
        fraction = flat[tied]
        flat[tied] = (torch.rand(fraction.shape, dtype=torch.float64) < fraction).to(flat.dtype)
    return p


def linear(x: Tensor, weight: Tensor, plus: Tensor) -> Tensor:
    """``x @ weight + plus`` without gradient, by the faster single-precision kernel of this processor.

    MKL's kernels are slow on AMD processors with AVX-512, where oneDNN's reach twice their speed at equal accuracy
    (figures in CONTRIBUTING).

    Args:
        x: ``rows x n``.
        weight: ``n x m``, of any strides.
        plus: ``m``.
    """
    if x.dtype == torch.float32 and x.device.type == "cpu" and plus.dim() == 1 and weight.dim() == 2 and x.dim() == 2:
        return _fastest()(x, weight, plus)
    return torch.matmul(x, weight).add_(plus)


def _addmm(x: Tensor, weight: Tensor, plus: Tensor) -> Tensor:
    return torch.addmm(plus, x, weight)


def _onednn(x: Tensor, weight: Tensor, plus: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight.t(), plus, "none", [], "")


@functools.cache
def _fastest() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The kernel for this processor.

    Chosen by what the processor is and not by timing it: two kernels round differently, and a choice that could change
    between two processes would break bit-identical resumption.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not _is_amd():
        return _addmm
    x, weight, plus = torch.eye(3), torch.arange(6.0).view(3, 2), torch.ones(2)
    try:
        with torch.no_grad():
            agree = torch.equal(_onednn(x, weight, plus), _addmm(x, weight, plus))
    except (AttributeError, RuntimeError):
        return _addmm
    return _onednn if agree else _addmm


def _is_amd() -> bool:
    try:
        with open("/proc/cpuinfo") as lines:
            return any("AuthenticAMD" in line for line in lines)
    except OSError:
        return False
