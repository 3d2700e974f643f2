"""Log-probabilities of rows of independent bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import processor
from .guard import is_plain


def bit_log_probs(logits: Tensor, value: Tensor) -> Tensor | None:
    r"""$\sum_i x_i l_i - \log(1 + e^{l_i})$, log p of rows of independent bits, in nats, over the last dimension.

    Args:
        logits: ``batch_shape x columns``.
        value: bits, or means of bits, of that shape or of its last dimensions.

    Returns:
        ``batch_shape``; None where the loop does not take these tensors.
    """
    whole = value.shape == logits.shape[logits.dim() - value.dim() :] and 0 < value.dim() <= logits.dim()
    if not (whole and logits.numel() >= processor.FEW_LOGITS and processor.single_on_processor((logits, value))):
        return None
    if value.requires_grad or not (is_plain(logits) and is_plain(value)):
        return None
    found: Tensor = _BitLogProbs.apply(logits, value)
    return found


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
