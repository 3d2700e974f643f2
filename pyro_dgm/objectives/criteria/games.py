"""The losses of adversarial games, and ways to play them (section 20.10.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ... import processes
from ...checks import check_choice

Game = Literal["zero-sum", "non-saturating", "maximum-likelihood"]
"""What the generator minimises; the discriminator minimises the same loss in every game."""

LARGEST_LOG_ODDS = 30.0
"""The log odds above which the maximum-likelihood game's exponential stands still, so that it stays finite."""


def discriminator_loss(data: Tensor, generated: Tensor) -> Tensor:
    r"""$-v = -E_p \log d(x) - E_q \log(1 - d(x))$ (20.81), from log odds of rows of data and of generated rows.

    Example:
        >>> discriminator_loss(torch.zeros(2), torch.zeros(2))
        tensor(1.3863)
    """
    return F.softplus(-data).mean() + F.softplus(generated).mean()


def generator_loss(game: Game, generated: Tensor) -> Tensor:
    r"""The generator's loss from the log odds a of generated rows.

    ``"zero-sum"``: $E_q \log(1 - d(x))$ (20.80-81), whose slope vanishes where the discriminator is sure; ``"non-saturating"``:
    $-E_q \log d(x)$; ``"maximum-likelihood"``: $-E_q e^{a(x)}$, whose gradient at the best discriminator is that of
    $\mathrm{KL}(p \| q)$ (Goodfellow 2014). Log odds above 30 count as 30 there, which biases the gradient.

    Raises:
        ValueError: an unknown game.

    Example:
        >>> [round(float(generator_loss(game, torch.zeros(1))), 3) for game in ("zero-sum", "non-saturating")]
        [-0.693, 0.693]
    """
    check_choice("game", game, get_args(Game))
    if game == "zero-sum":
        return -F.softplus(generated).mean()
    if game == "non-saturating":
        return F.softplus(-generated).mean()
    return -generated.clamp(max=LARGEST_LOG_ODDS).exp().mean()


def held(player: nn.Module, x: Tensor) -> Tensor:
    """A player's answer in the other player's turn: its weights have no gradient, its buffers do not move."""
    state = {name: p.detach() for name, p in player.named_parameters()}
    state |= {name: b.clone() for name, b in player.named_buffers()}
    return functional_call(player, state, (x,))


def extrapolated(loss: Callable[[], Tensor], parameters: Sequence[Tensor], step: float, rows: int) -> Tensor:
    """A loss whose gradient is taken a step ahead, at the parameters after a step along the present gradient.

    Games whose simultaneous steps go round in circles contract with it (Korpelevich 1976).

    Args:
        loss: the loss; it is computed twice.
        parameters: all players' parameters.
        step: the size of the step ahead.
        rows: the rows of this process, by which the gradient is averaged over processes.
    """
    slopes = torch.autograd.grad(loss(), parameters, allow_unused=True)
    with torch.no_grad():
        before = [p.detach().clone() for p in parameters]
        for p, slope in zip(parameters, slopes, strict=True):
            if slope is not None:
                p.sub_(step * processes.mean(slope, rows))
    try:
        ahead = loss()
        slopes = torch.autograd.grad(ahead, parameters, allow_unused=True)
    finally:
        with torch.no_grad():
            for p, value in zip(parameters, before, strict=True):
                p.copy_(value)
    moved = [((p - p.detach()) * g).sum() for p, g in zip(parameters, slopes, strict=True) if g is not None]
    return ahead.detach() + torch.stack(moved).sum()
