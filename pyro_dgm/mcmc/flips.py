"""Moves that flip bits along the gradient of an energy, with one decision per chain."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..native import bernoulli
from .leapfrog import Potential, accepts, value_and_gradient


def flip_moves(
    potential: Potential, bits: Tensor, log_rate: Tensor, num_steps: int, decide: Callable[[Tensor], Tensor] = accepts
) -> Tensor:
    r"""Move bits so that $e^{-U}$ stays their law (Zhang, Liu and Liu 2022, for bits).

    A proposal flips bit i with probability $\sigma(\tfrac12 d_i + \rho)$, independently of the others. Here
    $d_i = (2 b_i - 1)\, \partial U / \partial b_i$ estimates by how much a flip of bit i alone lowers the energy U, and
    $\rho$ is the log rate. The acceptance ratio $e^{U(b) - U(b')} q(b \mid b') / q(b' \mid b)$ corrects for the error of
    that estimate, however large it is. A proposal costs one energy with its gradient.

    Args:
        potential: from bits (as zeros and ones of the energies' type) to energies; it must be defined, and
            differentiable, between zero and one.
        bits: ``chains x batch_shape x bits``.
        log_rate: $\rho$, at most 0, of a shape that broadcasts to ``chains x batch_shape x 1``.
        num_steps: the number of proposals.
        decide: from log ratios, ``chains x batch_shape``, to decisions; the log ratio is minus infinity where an energy is
            not finite.

    Example:
        >>> import torch
        >>> flip_moves(lambda b: b.sum(-1), torch.ones(5, 3), torch.tensor(-1.0), 4).shape
        torch.Size([5, 3])
    """
    energy, gradient = value_and_gradient(potential, bits)
    logits = _logits(bits, gradient, log_rate)
    for _ in range(num_steps):
        flipped = bernoulli(logits)
        proposal = (bits - flipped).abs()
        after, gradient = value_and_gradient(potential, proposal)
        back = _logits(proposal, gradient, log_rate)
        sign = 2 * flipped - 1
        drawn = (logsigmoid(sign * back) - logsigmoid(sign * logits)).sum(-1)
        accept = decide(torch.where(after.isfinite(), energy - after + drawn, -torch.inf))
        mask = accept.unsqueeze(-1)
        bits, logits = torch.where(mask, proposal, bits), torch.where(mask, back, logits)
        energy = torch.where(accept, after, energy)
    return bits


def _logits(bits: Tensor, gradient: Tensor, log_rate: Tensor) -> Tensor:
    return (0.5 * (2 * bits - 1) * gradient + log_rate).nan_to_num(0.0)
