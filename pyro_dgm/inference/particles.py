"""Particle filters: weighted paths over frames, drawn anew where few of them count, and traced back to the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .. import processes
from ..autoregressive.conditionals import clamped_walk
from ..data.sequences import checked_frames, join_frames, split_frames
from ..distributions.recurrent_frames import RecurrentFrames, check_values
from .importance import log_mean

AT_ONCE = 1 << 22
"""Numbers of unknown frames that are held in memory while they are filled in."""


class Step(NamedTuple):
    """A frame of every particle.

    Attributes:
        values: what was drawn, each ``particles x rows x ...``.
        gain: the logarithm of what the weights are multiplied by, ``particles x rows``.
        state: what the next frame depends on, ``particles x rows x units``.
    """

    values: tuple[Tensor, ...]
    gain: Tensor
    state: Tensor


class Paths(NamedTuple):
    r"""Weighted paths over frames.

    Attributes:
        values: of every frame what its step drew.
        parents: of every frame but the first, the particles of the frame before that its particles go on from.
        log_weights: of the last frame's particles, ``particles x rows``.
        log_evidence: the log of the mean weight of all frames, one figure a row: its exponential is an unbiased estimate.
        effective_sample_size: the smallest that a row's particles had before they were drawn anew.
    """

    values: list[tuple[Tensor, ...]]
    parents: list[Tensor]
    log_weights: Tensor
    log_evidence: Tensor
    effective_sample_size: Tensor

    @property
    def shares(self) -> Tensor:
        """The weights as shares that sum to one in every row."""
        return self.log_weights.softmax(0)

    def back(self, chosen: Tensor | None = None) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Every frame's number and values, the last frame first, along the paths that end in some particles.

        Args:
            chosen: the particles, ``paths x rows``; None takes one a row, drawn by the weights.
        """
        if chosen is None:
            chosen = torch.multinomial(self.shares.T, 1).T
        rows = torch.arange(chosen.shape[1], device=chosen.device)
        for t in reversed(range(len(self.values))):
            yield t, tuple(value[chosen, rows] for value in self.values[t])
            if t:
                chosen = self.parents[t - 1][chosen, rows]


def run_particles(
    step: Callable[[int, Tensor], Step], state: Tensor, present: Tensor, particles: int, keep_first: bool = False
) -> Paths:
    """So many weighted paths a row over its frames.

    Where a row's weights are worth fewer than half its particles, these are drawn anew by their weights, which are equal
    from there on. With ``keep_first`` the first particle has a path that is given, and every drawing keeps it: the steps of
    a chain of paths whose law they leave as it is (particle Gibbs; Andrieu et al. 2010).

    Args:
        step: draws a frame of every particle, given its number and the state.
        state: before the first frame, ``particles x rows x units``.
        present: booleans, ``rows x frames``: which frames exist. Others do not change the weights.
        particles: how many.
        keep_first: keep the first particle's path.
    """
    rows, length = present.shape
    itself = torch.arange(particles, device=state.device).unsqueeze(1).expand(-1, rows)
    log_w, log_evidence = state.new_zeros(particles, rows), state.new_zeros(rows)
    worth = state.new_full((rows,), float(particles))
    values: list[tuple[Tensor, ...]] = []
    parents: list[Tensor] = []
    for t in range(length):
        drawn, gain, state = step(t, state)
        values.append(drawn)
        log_w = log_w + torch.where(present[:, t], gain, 0.0)
        share = log_w.softmax(0)
        effective = 1 / share.square().sum(0)
        worth = torch.minimum(worth, effective)
        if t == length - 1:
            break
        few = effective < particles / 2
        again = torch.multinomial(share.T, particles, replacement=True).T
        if keep_first:
            again[0] = 0
        parent = torch.where(few, again, itself)
        parents.append(parent)
        log_evidence = log_evidence + torch.where(few, log_mean(log_w), 0.0)
        log_w = torch.where(few, 0.0, log_w)
        state = state.gather(0, parent.unsqueeze(-1).expand_as(state))
    return Paths(values, parents, log_w, log_evidence + log_mean(log_w), worth)


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


def given_values(x: Tensor, known: Tensor, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Padded rows' frames, zero where a value is unknown; which values are known, those of padding among them; and which
    frames exist: ``rows x T x D`` twice, and ``rows x T``.

    Args:
        x: padded rows.
        known: booleans of that shape, not read in the columns that say which frames exist.
        features: values of a frame.

    Raises:
        ValueError: rows that are no sequences.
    """
    values, present = checked_frames(x, features)
    given = (split_frames(known.to(x), features)[0] > 0.5) | ~present.unsqueeze(-1)
    return torch.where(given, values, 0.0), given, present


def _at_once(sequence: RecurrentFrames, x: Tensor, known: Tensor, particles: int, draw: bool) -> Filled:
    values, given, present = given_values(x, known, sequence.features)
    check_values(sequence.output, values, "RNNNADE")
    start = sequence.start.expand(particles, len(x), -1)
    context = sequence.context.expand(particles * len(x), -1)

    def step(t: int, state: Tensor) -> Step:
        state = state.flatten(0, 1)
        clamped = given[:, t].expand(particles, *given[:, t].shape).flatten(0, 1)
        here = values[:, t].expand(particles, *values[:, t].shape).flatten(0, 1)
        drawn, gain = clamped_walk(sequence.frame(state, context), here, clamped)
        state = sequence.advance(drawn, state, context)
        drawn, gain, state = (part.unflatten(0, (particles, len(x))) for part in (drawn, gain, state))
        return Step((drawn,), gain, state)

    paths = run_particles(step, start, present[:, : int(present.sum(-1).max())], particles)
    every = torch.arange(particles, device=x.device).unsqueeze(1).expand(-1, len(x))
    share, means = torch.ones_like(paths.shares[:1]) if draw else paths.shares, values.clone()
    for t, (path,) in paths.back(None if draw else every):
        means[:, t] = sequence.output.centre(path, share)
    filled = join_frames(torch.where(given, values, means), present)
    return Filled(filled, paths.log_evidence, paths.effective_sample_size)
