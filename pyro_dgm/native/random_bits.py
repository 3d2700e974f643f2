"""The compiled loops behind random bits on the processor; imported at the first large draw.

Draws go in blocks of 1024. Block n has the n-th part of one stream of random words, so that bits do not depend on who draws
them. By logits a row of 32 bits is drawn in registers (see ``draw_vectors``); by probabilities words, comparisons and ties
are loops of their own, whose arrays stay in the first-level cache.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray

from .draw_vectors import WORDS, draw_row, number_at, write_word
from .machine_code import compiled, inlined, vectors
from .team import for_a_team, own_part
from .vectors import BYTES, TILE

BLOCK = 1024
"""Draws made at once: their random words stay in the first-level cache."""

_U64 = np.uint64
_ALTERNATING = _U64(0xAAAAAAAAAAAAAAAA)


@compiled
def mix(z: Any) -> Any:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> _U64(27))) * _U64(0x94D049BB133111EB)
    return z ^ (z >> _U64(31))


@compiled
def increment(word: Any) -> Any:
    """An odd increment with enough changes between neighbouring bits: it names one of 2^63 streams."""
    gamma = mix(word) | _U64(1)
    changes, transitions = 0, gamma ^ (gamma >> _U64(1))
    while transitions:
        transitions &= transitions - _U64(1)
        changes += 1
    return gamma ^ _ALTERNATING if changes < 24 else gamma


@compiled
def uniform(state: Any) -> Any:
    """A number in [0, 1) of double precision, from the state of a stream."""
    return np.float64(mix(state) >> _U64(11)) * 2.0**-53


@compiled
def stream(seed: Any, gamma: Any, part: Any, size: Any) -> Any:
    """The state at which a numbered part of a stream begins, if each draws ``size`` bits: a word for four, and one per tie."""
    return seed + gamma * (_U64((size + 3) // 4 + size) * _U64(part))


@compiled
def decide(p: Any, lanes: Any, state: Any, gamma: Any) -> Any:
    """Overwrite probabilities by bits: 16 random bits against p, and a double where they tie; returns the state."""
    scale, one, zero = p.dtype.type(65536), p.dtype.type(1), p.dtype.type(0)
    ties = 0
    for i in range(p.size):
        threshold = p[i] * scale
        whole = np.int32(threshold)
        ties += (np.int32(lanes[i]) == whole) and (threshold != p.dtype.type(whole))
    if ties == 0:
        for i in range(p.size):
            p[i] = one if np.int32(lanes[i]) < np.int32(p[i] * scale) else zero
        return state
    for i in range(p.size):
        threshold = p[i] * scale
        whole = np.int32(threshold)
        below = np.int32(lanes[i]) < whole
        if np.int32(lanes[i]) == whole:
            state += gamma
            below = uniform(state) < np.float64(threshold) - np.float64(whole)
        p[i] = one if below else zero
    return state


@compiled
def fill(words: Any, number: Any, state: Any, gamma: Any) -> None:
    """Fill in the first ``number`` random words after a state."""
    for w in range(number):
        words[w] = mix(state + gamma * _U64(w + 1))


@compiled
def draw(p: Any, seeds: Any) -> None:
    """Overwrite this member's share of some probabilities by bits drawn with them.

    Every block has its own part of the stream of SplitMix64 that the two ``seeds`` start, so that bits do not depend on the
    number of threads.
    """
    words = np.empty(BLOCK // 4, np.uint64)
    lanes, gamma = words.view(np.uint16), increment(seeds[1])
    first, end = own_part((p.size + BLOCK - 1) // BLOCK)
    for block in range(first, end):
        block_p = p[block * BLOCK : min((block + 1) * BLOCK, p.size)]
        state = stream(seeds[0], gamma, block, BLOCK)
        fill(words, (block_p.size + 3) // 4, state, gamma)
        decide(block_p, lanes, state + gamma * _U64(words.size), gamma)


@compiled
def break_ties(logits: Any, undecided: Any, ones: Any, lanes: Any, ties: Any, gamma: Any) -> Any:
    """Set undecided bits of a word with the probability of the share of their part that lies below p.

    ``lanes`` is the state before the words that left them undecided, ``ties`` the one before the double-precision numbers that
    decide; returns the word and the latter's state.
    """
    for i in range(TILE):
        if undecided >> np.uint32(i) & np.uint32(1):
            ties += gamma
            part = mix(lanes + gamma * _U64(i // 4 + 1)) >> _U64(i % 4 * 16) & _U64(0xFFFF)
            if uniform(ties) < 65536.0 / (1.0 + math.exp(-np.float64(number_at(logits + 4 * i)))) - np.float64(part):
                ones |= np.uint32(1) << np.uint32(i)
    return ones, ties


@inlined
def draw_word(logits: Any, lanes: Any, ties: Any, gamma: Any, inverse: Any) -> Any:
    """A word of bits by 32 logits, and the state for ties after it; 1 / p goes to ``inverse``, an address as ``logits`` is."""
    ones, undecided = draw_row(logits, lanes, gamma, inverse)
    if undecided:
        ones, ties = break_ties(logits, undecided, ones, lanes, ties, gamma)
    return ones, ties


@compiled
def draw_by_logits(logits: Any, bits: Any, edge: Any, size: Any, state: Any, gamma: Any) -> None:
    """Fill in bits by their logits, from a stream's part for ``size`` bits; both arrays may be the same.

    ``edge`` is room for three rows of 32 numbers.
    """
    whole, ties = bits.size // TILE, state + gamma * _U64(size // 4)
    source, target, room = logits.ctypes.data, bits.ctypes.data, edge.ctypes.data
    for row in range(whole):
        ones, ties = draw_word(source + row * BYTES, state + gamma * _U64(row * WORDS), ties, gamma, room)
        write_word(ones, target + row * BYTES)
    if whole * TILE < bits.size:
        copy(logits[whole * TILE :], edge[TILE : TILE + bits.size - whole * TILE])
        ones, ties = draw_word(room + BYTES, state + gamma * _U64(whole * WORDS), ties, gamma, room)
        write_word(ones, room + 2 * BYTES)
        copy(edge[2 * TILE :], bits[whole * TILE :])


@vectors
def copy(source: Any, target: Any) -> None:
    """Fill an array from the beginning of another one."""
    for i in range(target.size):
        target[i] = source[i]


@compiled
def draw_from_logits(logits: Any, bits: Any, seeds: Any) -> None:
    """Fill in bits as ``draw`` does, by their logits; both arrays may be the same."""
    edge, gamma = np.zeros(3 * TILE, np.float32), increment(seeds[1])
    first, end = own_part((bits.size + BLOCK - 1) // BLOCK)
    for block in range(first, end):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, bits.size)
        draw_by_logits(logits[start:stop], bits[start:stop], edge, BLOCK, stream(seeds[0], gamma, block, BLOCK), gamma)


@compiled
def draw_at_temperatures(base: Any, fields: Any, betas: Any, source: Any, bits: Any, seeds: Any) -> None:
    """Fill in bits of the logits base + beta field: rows are at the temperatures in turn, with the fields of row ``source``.

    Where ``source`` is empty every row has its own fields, and bits and fields may be the same array.
    """
    width = padded(base.size)
    edge, logits = np.zeros(3 * TILE, np.float32), np.empty(base.size, np.float32)
    gamma = increment(seeds[1])
    first, end = own_part(bits.shape[0])
    for row in range(first, end):
        interpolate(base, fields[source[row] if source.size else row], betas[row % betas.size], logits)
        draw_by_logits(logits, bits[row], edge, width, stream(seeds[0], gamma, row, width), gamma)


@compiled
def padded(columns: Any) -> Any:
    """The width of a row in whole vectors: numbers left over from whole vectors would be handled one by one, which is slow."""
    return (columns + 31) // 32 * 32


@vectors
def interpolate(base: Any, field: Any, beta: Any, logits: Any) -> None:
    for i in range(base.size):
        logits[i] = base[i] + beta * field[i]


@compiled
def _array(data: Any, place: Any, dtype: Any) -> Any:
    return carray(data[place], carray(data[0], 1, np.int64)[0], dtype)


@for_a_team
def draw_double(data: Any) -> None:
    draw(_array(data, 1, np.float64), carray(data[2], 2, np.uint64))


@for_a_team
def draw_single(data: Any) -> None:
    draw(_array(data, 1, np.float32), carray(data[2], 2, np.uint64))


@for_a_team
def draw_from_single_logits(data: Any) -> None:
    draw_from_logits(_array(data, 1, np.float32), _array(data, 2, np.float32), carray(data[3], 2, np.uint64))


@for_a_team
def draw_single_at_temperatures(data: Any) -> None:
    sizes = carray(data[0], 4, np.int64)
    shape = (sizes[0], sizes[1])
    base, fields = carray(data[1], sizes[1], np.float32), carray(data[2], shape, np.float32)
    betas, source = carray(data[3], sizes[2], np.float32), carray(data[4], sizes[3], np.int64)
    draw_at_temperatures(base, fields, betas, source, carray(data[5], shape, np.float32), carray(data[6], 2, np.uint64))
