"""Log-probabilities of rows of independent bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from . import processor
from .guard import is_plain, runs_at_once
from .precision import out_of_autocast


def bit_log_probs(logits: Tensor, value: Tensor) -> Tensor | None:
    r"""$\sum_i x_i l_i - \log(1 + e^{l_i})$, log p of rows of independent bits, in nats, over the last dimension.

    Logits that many values share, whether they are expanded over their first dimensions or have fewer, take the logarithms once:
    what is left is a product.

    Args:
        logits: ``batch_shape x columns``, or the last dimensions of that.
        value: bits, or means of bits, ``batch_shape x columns``, or the last dimensions of that.

    Returns:
        ``batch_shape``; None where neither pays, or the loop does not take these tensors.
    """
    shared = _without_copies(logits)
    if 0 < shared.dim() < value.dim() and value.numel() >= processor.FEW_LOGITS and runs_at_once() and value.is_cpu:
        fits = value.shape[value.dim() - logits.dim() :] == logits.shape and value.dtype == logits.dtype
        # An infinite logit times a bit that is 0 is no number.
        if fits and bool(shared.isfinite().all()):
            return _by_product(shared, value)
    whole = value.shape == logits.shape[logits.dim() - value.dim() :] and 0 < value.dim() <= logits.dim()
    if not (whole and logits.numel() >= processor.FEW_LOGITS and processor.single_on_processor((logits, value))):
        return None
    value = value.contiguous()  # rows of a table may lie column by column
    if value.requires_grad or not (is_plain(logits) and is_plain(value)):
        return None
    found: Tensor = _BitLogProbs.apply(logits, value)
    return found


@out_of_autocast
def _by_product(logits: Tensor, value: Tensor) -> Tensor:
    ones = value @ logits if logits.dim() == 1 else (value * logits).sum(-1)
    return ones - softplus(logits).sum(-1)


def _without_copies(logits: Tensor) -> Tensor:
    """Logits without the first dimensions over which they are expanded."""
    copied = 0
    while copied < logits.dim() - 1 and logits.stride(copied) == 0:
        copied += 1
    return logits[(0,) * copied] if copied else logits


class _BitLogProbs(torch.autograd.Function):
    """The loop, and its derivative by the logits, which it finds on the way."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor) -> Tensor:
        from . import log_prob_loop, team

        kept = bool(ctx.needs_input_grad[0])
        found, slopes = logits.new_empty(logits.shape[:-1]), logits.new_empty(logits.shape if kept else 0)
        columns = logits.shape[-1]
        sizes = (found.numel(), columns, value.numel() // columns, kept)
        team.run_team(log_prob_loop.weigh_bits, (logits, value, found, slopes), *sizes)
        ctx.save_for_backward(logits, value, slopes)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        logits, value, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            slopes = value - torch.sigmoid(logits)
        return gradients[0].unsqueeze(-1) * slopes, None
