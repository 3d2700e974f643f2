"""Particle filters: weighted paths over frames, resampled when few of them have weight, and traced back to the first frame."""

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
"""The most numbers, over rows and particles, that are held in memory while unknown frames are filled in."""


class Step(NamedTuple):
    """A frame of every particle.

    Attributes:
        values: the draws, each ``particles x rows x ...``.
        gain: the logarithm of the factor of the weights, ``particles x rows``.
        state: the state that the next frame depends on, ``particles x rows x units``.
    """

    values: tuple[Tensor, ...]
    gain: Tensor
    state: Tensor


class Paths(NamedTuple):
    r"""Weighted paths over frames.

    Attributes:
        values: the draws of every frame's step.
        parents: for every frame but the first, the particles of the frame before that its particles continue.
        log_weights: of the last frame's particles, ``particles x rows``.
        log_evidence: the log of the mean weight of all frames, one figure per row: its exponential is an unbiased estimate.
        effective_sample_size: the smallest effective number of particles before a resampling, one figure per row.
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
        """The number and values of every frame, the last frame first, along the paths that end in some particles.

        Args:
            chosen: the particles, ``paths x rows``; None takes one per row, drawn by the weights.
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
    """Run a particle filter: weighted paths over the frames of every row.

    Where the effective number of a row's particles is below half their number, they are resampled by their weights, which
    are equal from there on. With ``keep_first`` the path of the first particle is given by ``step``, and every resampling
    keeps it. Such a run is a step of a chain of paths that leaves their law unchanged (particle Gibbs; Andrieu et al.
    2010).

    Args:
        step: draws a frame of every particle, given the number of the frame and the state.
        state: the state before the first frame, ``particles x rows x units``.
        present: booleans, ``rows x frames``: which frames exist. Other frames do not change the weights.
        particles: the number of particles per row.
        keep_first: keep the path of the first particle.
    """
    rows, length = present.shape
    itself = torch.arange(particles, device=state.device).unsqueeze(1).expand(-1, rows)
    log_w, log_evidence = state.new_zeros(particles, rows), state.new_zeros(rows)
    smallest = state.new_full((rows,), float(particles))
    values: list[tuple[Tensor, ...]] = []
    parents: list[Tensor] = []
    for t in range(length):
        drawn, gain, state = step(t, state)
        values.append(drawn)
        log_w = log_w + torch.where(present[:, t], gain, 0.0)
        share = log_w.softmax(0)
        effective = 1 / share.square().sum(0)
        smallest = torch.minimum(smallest, effective)
        if t == length - 1:
            break
        few = effective < particles / 2
        resampled = torch.multinomial(share.T, particles, replacement=True).T
        if keep_first:
            resampled[0] = 0
        parent = torch.where(few, resampled, itself)
        parents.append(parent)
        log_evidence = log_evidence + torch.where(few, log_mean(log_w), 0.0)
        log_w = torch.where(few, 0.0, log_w)
        state = state.gather(0, parent.unsqueeze(-1).expand_as(state))
    return Paths(values, parents, log_w, log_evidence + log_mean(log_w), smallest)


class Filled(NamedTuple):
    r"""Padded rows whose unknown values were filled in.

    Attributes:
        rows: the rows, with the means of unknown values, or one draw of them.
        log_known: the log of the unbiased estimate of $p(x_b)$, one figure per row.
        effective_sample_size: the smallest effective number of particles before a resampling, one figure per row.
    """

    rows: Tensor
    log_known: Tensor
    effective_sample_size: Tensor


@torch.no_grad()
def fill_in_frames(sequence: RecurrentFrames, x: Tensor, known: Tensor, particles: int, draw: bool = False) -> Filled:
    """Fill in the unknown values of padded rows by particles; the result is the same in all processes.

    Args:
        sequence: the distribution of a sequence.
        x: padded rows.
        known: booleans of that shape, not read in the columns that say which frames exist.
        particles: the number of particles per row.
        draw: fill in the values of one particle, drawn by the weights, instead of the weighted means.

    Raises:
        ValueError: known values that their columns cannot have, or rows that are no sequences.
    """
    rows = max(AT_ONCE // (particles * x.shape[1]), 1)
    with processes.one_stream():
        chunks = zip(x.split(rows), known.split(rows), strict=True)
        filled = [_fill_in_chunk(sequence, *chunk, particles, draw) for chunk in chunks]
    return Filled(*(torch.cat(tensors) for tensors in zip(*filled, strict=True)))


def given_values(x: Tensor, known: Tensor, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """The frames of padded rows, and which of their values are known.

    Returns:
        The frames, zero where a value is unknown; booleans, True for known values and for padding; and which frames exist:
        ``rows x T x D`` twice, and ``rows x T``.

    Args:
        x: padded rows.
        known: booleans of that shape, not read in the columns that say which frames exist.
        features: values of a frame.

    Raises:
        ValueError: rows that are no sequences.
    """
    values, present = checked_frames(x, features)
    known_values = (split_frames(known.to(x), features)[0] > 0.5) | ~present.unsqueeze(-1)
    return torch.where(known_values, values, 0.0), known_values, present


def _fill_in_chunk(sequence: RecurrentFrames, x: Tensor, known: Tensor, particles: int, draw: bool) -> Filled:
    values, known_values, present = given_values(x, known, sequence.features)
    check_values(sequence.output, values, "RNNNADE")
    start = sequence.start.expand(particles, len(x), -1)
    context = sequence.context.expand(particles * len(x), -1)

    def step(t: int, state: Tensor) -> Step:
        state = state.flatten(0, 1)
        clamped = known_values[:, t].expand(particles, *known_values[:, t].shape).flatten(0, 1)
        frame = values[:, t].expand(particles, *values[:, t].shape).flatten(0, 1)
        drawn, gain = clamped_walk(sequence.frame(state, context), frame, clamped)
        state = sequence.advance(drawn, state, context)
        drawn, gain, state = (tensor.unflatten(0, (particles, len(x))) for tensor in (drawn, gain, state))
        return Step((drawn,), gain, state)

    paths = run_particles(step, start, present[:, : int(present.sum(-1).max())], particles)
    all_particles = torch.arange(particles, device=x.device).unsqueeze(1).expand(-1, len(x))
    share, means = torch.ones_like(paths.shares[:1]) if draw else paths.shares, values.clone()
    for t, (path,) in paths.back(None if draw else all_particles):
        means[:, t] = sequence.output.centre(path, share)
    filled = join_frames(torch.where(known_values, values, means), present)
    return Filled(filled, paths.log_evidence, paths.effective_sample_size)
