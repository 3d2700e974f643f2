"""The compiled loop behind annealing of binary layers with one colour summed out; imported at its first use.

States are words of bits, ``tiles x rows`` for every layer, weights half tiles or terms as in a sweep. A step from one inverse
temperature to the next has two parts, with a barrier after each block:

1. ``weigh``: fields of the summed colour given the others; what the step adds to every row's log weight; bits of that colour at
   the new temperature, from the same fields;
2. ``draw``: bits of the other colours at the new temperature.

Cost: one pass of products for either part, as in a sweep, and a short series for every unit of the summed colour.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray

from .draw_vectors import WORDS
from .machine_code import compiled
from .random_bits import BLOCK, draw_word, increment, stream
from .rises import rise
from .sweeps import PIECE, layout_of, tiles, work_for, write_fields
from .tables import CHUNK, aligned
from .team import for_a_team, meet, own_part
from .unit_products import whole_blocks
from .vectors import BYTES, TILE, interpolate_row, sum_selected

_HEAD = 7
_BASES = 4
"""The number of the first pointer behind the arrays that every machine has."""


class Room(NamedTuple):
    """A member's own memory: for products, for fields, and rows of logits, of their sigmoids' reciprocals and of zeros."""

    work: Any
    fields: Any
    logits: Any
    inverse: Any
    nothing: Any


@compiled
def strip_of(data: Any, layout: Any, layer: Any, first: Any, strip: Any) -> Any:
    """The address of a strip of the base or of the difference of a layer."""
    return carray(data[first + layer], (tiles(layout.sizes[layer]), TILE), np.float32)[strip].ctypes.data


@compiled
def write_rows(
    data: Any, layout: Any, place: Any, strip: Any, top: Any, height: Any, before: Any, after: Any, part: Any, room: Any,
    words: Any, rises: Any,
) -> None:  # fmt: skip
    """Draw words of a block's strip at a temperature, and add what the way there from another one adds to log weights.

    Nothing is added where there are no ``rises``; ``part`` is a seed, an increment and a numbered part of the stream.
    """
    layer, layers = layout.order[place], layout.sizes.size
    write_fields(data, layout, room.nothing, place, strip, top, height, room.work, room.fields.ctypes.data)
    start, change = strip_of(data, layout, layer, _BASES, strip), strip_of(data, layout, layer, _BASES + layers, strip)
    logits, inverse = room.logits.ctypes.data, room.inverse.ctypes.data
    seed, gamma, number = part
    for piece in range((height + PIECE - 1) // PIECE):
        state = stream(seed, gamma, number + piece, BLOCK)
        ties = state + gamma * np.uint64(BLOCK // 4)
        for i in range(piece * PIECE, min((piece + 1) * PIECE, height)):
            field = room.fields.ctypes.data + i * BYTES
            interpolate_row(start, change, field, after, logits)
            words[i], ties = draw_word(logits, state, ties, gamma, inverse)
            state += gamma * np.uint64(WORDS)
            if rises.size:
                rises[i] += rise(inverse, change, field, after - before, logits)


@compiled
def weigh_others(data: Any, layout: Any, early: Any, before: Any, after: Any, nothing: Any, rises: Any) -> None:
    """Add what the biases of the colours that are not summed out add to log weights."""
    rows, layers, offset = layout.rows, layout.sizes.size, 0
    for place in range(layout.order.size):
        layer = layout.order[place]
        strips = tiles(layout.sizes[layer])
        words = carray(data[layout.words + layer], (strips, rows), np.uint32)
        first, end = own_part(strips if place >= early else 0)
        for strip in range(first, end):
            change = strip_of(data, layout, layer, _BASES + layers, strip)
            for i in range(rows):
                gap = sum_selected(words[strip, i], change, nothing.ctypes.data)
                rises[offset + strip, i] += np.float64(after - before) * np.float64(gap)
        offset += strips


@compiled
def pass_colour(
    data: Any, layout: Any, early: Any, before: Any, after: Any, seeds: Any, gamma: Any, done: Any, room: Any, rises: Any
) -> Any:  # fmt: skip
    """Draw the summed colour's blocks where there are ``rises``, else the others'; returns the parts of the stream used up."""
    rows, offset, weighs = layout.rows, 0, rises.shape[0] > 0
    chunks, pieces = (rows + CHUNK - 1) // CHUNK, (rows + PIECE - 1) // PIECE
    for place in range(layout.order.size):
        layer = layout.order[place]
        strips = tiles(layout.sizes[layer])
        if (place < early) == weighs:
            words = carray(data[layout.words + layer], (strips, rows), np.uint32)
            first, end = own_part(strips * chunks)
            for task in range(first, end):
                strip, top = task // chunks, task % chunks * CHUNK
                height = min(CHUNK, rows - top)
                part = (seeds[0], gamma, done + strip * pieces + top // PIECE)
                own_rises = rises[offset + strip, top : top + height] if weighs else rises[:0].reshape(0)
                own_words = words[strip, top : top + height]
                write_rows(data, layout, place, strip, top, height, before, after, part, room, own_words, own_rises)
            done += strips * pieces
            meet(data)
        offset += strips
    return done


@compiled
def anneal(data: Any, layout: Any, early: Any, steps: Any) -> None:
    """Go from inverse temperature to inverse temperature: weigh, draw."""
    seeds, levels = carray(data[1], 2, np.uint64), carray(data[2], steps + 1, np.float64)
    total = 0
    for place in range(layout.order.size):
        total += tiles(layout.sizes[layout.order[place]])
    rises = carray(data[3], (total, layout.rows), np.float64)
    gamma, done = increment(seeds[1]), np.int64(0)
    fields = aligned(whole_blocks(min(layout.rows, CHUNK)))
    room = Room(work_for(layout), fields, aligned(1), aligned(1), aligned(1)[0])
    for step in range(steps):
        before, after = np.float32(levels[step]), np.float32(levels[step + 1])
        weigh_others(data, layout, early, before, after, room.nothing, rises)
        done = pass_colour(data, layout, early, before, after, seeds, gamma, done, room, rises)
        done = pass_colour(data, layout, early, before, after, seeds, gamma, done, room, rises[:0])


@for_a_team
def anneal_bits(data: Any) -> None:
    """Annealing of layers of bits, whose first blocks are summed out of the weights.

    Behind the first pointer: rows, layers, blocks, flows, steps, whether matrix units multiply, the number of blocks that are
    summed out, and the numbers of ``sweep_bits``. Behind the others: two seeds; inverse temperatures in double precision; log
    weights, ``strips of all blocks x rows``; base and difference of every layer, in whole tiles; words of bits; the flows'
    weights.
    """
    head = carray(data[0], _HEAD, np.int64)
    layers, blocks = head[1], head[2]
    numbers = carray(data[0], _HEAD + layers + blocks + 3 * head[3], np.int64)[_HEAD:]
    layout = layout_of(head[0], layers, blocks, _BASES + 2 * layers, numbers, head[5])
    anneal(data, layout, head[6], head[4])
