"""A particle filter over frames that are known in part."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .. import processes
from ..autoregressive.conditionals import clamped_walk
from ..data.sequences import checked_frames, split_frames
from ..distributions.recurrent_frames import RecurrentFrames, check_values
from .importance import log_mean

AT_ONCE = 1 << 22
"""Numbers of unknown frames that are held in memory while they are filled in."""


class Filled(NamedTuple):
    r"""Padded rows whose unknown values were filled in.

    Attributes:
        rows: the rows, with means of what was unknown, or one draw of it.
        log_known: the log of the unbiased estimate of $p(x_b)$: one a row.
        effective_sample_size: the smallest that a row's particles had before they were drawn anew.
    """

    rows: Tensor
    log_known: Tensor
    effective_sample_size: Tensor


@torch.no_grad()
def fill_in_frames(sequence: RecurrentFrames, x: Tensor, known: Tensor, particles: int, draw: bool = False) -> Filled:
    """Fill in what is unknown of padded rows, by so many particles a row; the same in all processes.

    Args:
        sequence: the distribution of a sequence.
        x: padded rows.
        known: booleans of that shape, not read in the columns that say which frames exist.
        particles: how many.
        draw: one particle's values, drawn by the weights, instead of their means.

    Raises:
        ValueError: known values that are none of their columns, or rows that are no sequences.
    """
    rows = max(AT_ONCE // (particles * x.shape[1]), 1)
    with processes.one_stream():
        parts = zip(x.split(rows), known.split(rows), strict=True)
        found = [_at_once(sequence, values, seen, particles, draw) for values, seen in parts]
    return Filled(*(torch.cat(part) for part in zip(*found, strict=True)))


def _at_once(sequence: RecurrentFrames, x: Tensor, known: Tensor, particles: int, draw: bool) -> Filled:
    values, present = checked_frames(x, sequence.features)
    given = split_frames(known.to(x), sequence.features)[0] > 0.5
    given = given | ~present.unsqueeze(-1)
    values = torch.where(given, values, 0.0)
    check_values(sequence.output, values, "RNNNADE")
    rows, length = len(x), int(present.sum(-1).max())
    state = sequence.start.expand(particles * rows, -1)
    context = sequence.context.expand(len(state), -1)
    itself = torch.arange(particles, device=x.device).unsqueeze(1).expand(-1, rows)
    log_w, log_known = x.new_zeros(particles, rows), x.new_zeros(rows)
    worth = x.new_full((rows,), float(particles))
    frames: list[Tensor] = []
    parents: list[Tensor] = []
    for t in range(length):
        clamped = given[:, t].expand(particles, rows, -1).flatten(0, 1)
        here = values[:, t].expand(particles, rows, -1).flatten(0, 1)
        drawn, gain = clamped_walk(sequence.frame(state, context), here, clamped)
        log_w = log_w + torch.where(present[:, t], gain.view(particles, rows), 0.0)
        frames.append(drawn.view(particles, rows, -1))
        state = sequence.advance(drawn, state, context)
        share = log_w.softmax(0)
        effective = 1 / share.square().sum(0)
        worth = torch.minimum(worth, effective)
        if t == length - 1:
            break
        few = effective < particles / 2
        again = torch.multinomial(share.T, particles, replacement=True).T
        parent = torch.where(few, again, itself)
        log_known = log_known + torch.where(few, log_mean(log_w), 0.0)
        log_w = torch.where(few, 0.0, log_w)
        state = state.view(particles, rows, -1).gather(0, parent.unsqueeze(-1).expand(-1, -1, sequence.start.shape[-1]))
        state = state.flatten(0, 1)
        parents.append(parent)
    share, chosen, means = log_w.softmax(0), itself, values.clone()
    if draw:
        chosen = torch.multinomial(share.T, 1).T
        share = torch.ones_like(share[:1])
    for t in reversed(range(length)):
        path = frames[t].gather(0, chosen.unsqueeze(-1).expand(-1, -1, frames[t].shape[-1]))
        means[:, t] = sequence.output.centre(path, share)
        if t:
            chosen = parents[t - 1].gather(0, chosen)
    filled = torch.where(given, values, means)
    log_known = log_known + log_mean(log_w)
    return Filled(torch.cat([filled, present.unsqueeze(-1).to(x)], -1).flatten(-2), log_known, worth)
