"""The compiled loops behind many steps of parallel tempering of binary layers; imported at their first use.

Rows are chains x temperatures, temperatures fastest; states are words of bits, ``tiles x rows`` for every layer, weights half
tiles as in a sweep, and logits and fields come in strips of 32 columns. A step has three parts, with a barrier after each:

1. ``weigh_colours``: fields of the first colour given the second, and D of every row, summed strip by strip;
2. ``swap_rows``: the rows of every chain trade places; each member has its share of the chains, with their part of the random
   stream;
3. ``draw_colours``: bits of the first colour from the fields of the row that came, then of the second colour.

A replica that trades places moves nothing: the first colour is drawn anew from its fields, and the second colour, which only
those fields had read, is drawn after that. Cost: one pass of products by tables for either colour, as in a sweep.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray

from .machine_code import compiled
from .random_bits import increment
from .swap_rounds import climb, swap_round
from .sweeps import PIECE, draw_words, layout_of, tiles, work_for, write_fields
from .tables import CHUNK, aligned
from .team import for_a_team, meet, own_part
from .unit_products import whole_blocks
from .vectors import BYTES, TILE, interpolate_row, sum_selected

_HEAD = 8
_BASES = 8
"""The number of the first pointer behind the arrays that every machine has."""


class Tempered(NamedTuple):
    """A tempered machine beyond its layout: numbers of temperatures and of the first colour's blocks, where its arrays begin."""

    temperatures: Any
    early: Any
    bases: Any
    differences: Any
    fields: Any


class Room(NamedTuple):
    """A member's own memory: for products, for sums, logits and an edge."""

    work: Any
    sums: Any
    logits: Any
    edge: Any


@compiled
def strips_of(data: Any, layout: Any, layer: Any, first: Any) -> Any:
    """The base or the difference of a layer in whole strips, ``strips x 32``."""
    return carray(data[first + layer], (tiles(layout.sizes[layer]), TILE), np.float32)


@compiled
def fields_of(data: Any, layout: Any, tempered: Any, place: Any) -> Any:
    """The memory for the fields of a block of the first colour, ``strips x rows x 32`` with whole blocks of rows."""
    shape = (tiles(layout.sizes[layout.order[place]]), whole_blocks(layout.rows), TILE)
    return carray(data[tempered.fields + min(place, tempered.early - 1)], shape, np.float32)


@compiled
def weigh_colours(data: Any, layout: Any, tempered: Any, gaps: Any, room: Any) -> None:
    """Keep the fields of the first colour, and sum every row's D: difference plus field where its bits are 1."""
    rows, nothing, offset = layout.rows, np.zeros(TILE, np.float32), 0
    chunks = (rows + CHUNK - 1) // CHUNK
    for place in range(layout.order.size):
        layer = layout.order[place]
        strips = tiles(layout.sizes[layer])
        difference = strips_of(data, layout, layer, tempered.differences)
        words = carray(data[layout.words + layer], (strips, rows), np.uint32)
        field = fields_of(data, layout, tempered, place)
        first, end = own_part(strips * chunks)
        for task in range(first, end):
            strip, top = task // chunks, task % chunks * CHUNK
            height = min(CHUNK, rows - top)
            field_row, down = nothing.ctypes.data, 0
            if place < tempered.early:
                field_row, down = field[strip, top].ctypes.data, BYTES
                write_fields(data, layout, nothing, place, strip, top, height, room.work, field_row)
            change = difference.ctypes.data + strip * BYTES
            for i in range(height):
                gaps[offset + strip, top + i] = sum_selected(words[strip, top + i], change, field_row + i * down)
        offset += strips


@compiled
def swap_rows(
    gaps: Any, betas: Any, from_base: Any, trips: Any, rates: Any, source: Any, state: Any, gamma: Any
) -> None:
    """Make a round of swaps in this member's chains, each from its own place in the random stream."""
    temperatures = betas.size
    gap, order = np.empty(temperatures), np.empty(temperatures, np.int64)
    climbing = np.empty(temperatures, np.uint8)
    start, end = own_part(trips.size)
    for chain in range(start, end):
        first = chain * temperatures
        gap[:] = 0.0
        for strip in range(gaps.shape[0]):
            for t in range(temperatures):
                gap[t] += np.float64(gaps[strip, first + t])
        pairs_before = gamma * np.uint64(chain * (temperatures - 1))
        swap_round(betas, gap, order, rates[chain], state + pairs_before, gamma)
        trips[chain] += climb(order, from_base[first : first + temperatures], climbing)
        for t in range(temperatures):
            source[first + t] = first + order[t]
            from_base[first + t] = climbing[t]


@compiled
def draw_colours(
    data: Any, layout: Any, tempered: Any, betas: Any, source: Any, seeds: Any, gamma: Any, done: Any, room: Any
) -> Any:
    """Draw every block at the rows' temperatures; returns the number of parts of the random stream used up."""
    rows, nothing = layout.rows, np.zeros(0, np.float32)
    chunks, pieces = (rows + CHUNK - 1) // CHUNK, (rows + PIECE - 1) // PIECE
    for place in range(layout.order.size):
        layer = layout.order[place]
        strips = tiles(layout.sizes[layer])
        base = strips_of(data, layout, layer, tempered.bases)
        difference = strips_of(data, layout, layer, tempered.differences)
        words = carray(data[layout.words + layer], (strips, rows), np.uint32)
        field = fields_of(data, layout, tempered, place)
        first, end = own_part(strips * chunks)
        for task in range(first, end):
            strip, top = task // chunks, task % chunks * CHUNK
            height = min(CHUNK, rows - top)
            if place >= tempered.early:
                write_fields(data, layout, nothing, place, strip, top, height, room.work, room.sums.ctypes.data)
            start, change = base.ctypes.data + strip * BYTES, difference.ctypes.data + strip * BYTES
            kept, brought = field[strip].ctypes.data, room.sums.ctypes.data
            for i in range(height):
                field_row = kept + source[top + i] * BYTES if place < tempered.early else brought + i * BYTES
                beta = np.float32(betas[(top + i) % betas.size])
                interpolate_row(start, change, field_row, beta, room.logits.ctypes.data + i * BYTES)
            part, strip_words = done + strip * pieces + top // PIECE, words[strip, top : top + height]
            draw_words(room.logits, height, seeds, gamma, part, room.edge, strip_words)
        done += strips * pieces
        meet(data)
    return done


@compiled
def temper(data: Any, layout: Any, tempered: Any, steps: Any) -> None:
    """Make some steps of all chains: weigh, swap, draw."""
    rows, temperatures = layout.rows, tempered.temperatures
    seeds, betas = carray(data[1], 4, np.uint64), carray(data[2], temperatures, np.float64)
    chains, pairs = rows // temperatures, temperatures - 1
    rates, source = carray(data[3], (chains, pairs), np.float64), carray(data[4], rows, np.int64)
    from_base, trips = carray(data[5], rows, np.uint8), carray(data[6], chains, np.int64)
    total = 0
    for size in layout.sizes:
        total += tiles(size)
    gaps = carray(data[7], (total, rows), np.float32)
    gamma, swapping, state = increment(seeds[1]), increment(seeds[3]), seeds[2]
    height = whole_blocks(min(rows, CHUNK))
    room = Room(work_for(layout), aligned(height), aligned(height), np.empty(TILE, np.float32))
    done = 0
    for _ in range(steps):
        weigh_colours(data, layout, tempered, gaps, room)
        meet(data)
        swap_rows(gaps, betas, from_base, trips, rates, source, state, swapping)
        state += swapping * np.uint64(chains * pairs)
        meet(data)
        done = draw_colours(data, layout, tempered, betas, source, seeds, gamma, done, room)


@for_a_team
def temper_bits(data: Any) -> None:
    """Steps of parallel tempering of layers of bits in two colours; rows are chains x temperatures.

    Fields of the first colour serve energies and, with the replicas that traded places, its draw; the second colour, which
    nothing reads before it is drawn, stays where it is.

    Behind the first pointer: rows, layers, blocks, flows, steps, temperatures, blocks of the first colour, whether matrix units
    multiply, and the numbers of ``sweep_bits``. Behind the others: four seeds; inverse temperatures in double precision; the
    summed swap probabilities of every chain's pairs; room for a row's source; which rows were at the lowest inverse temperature
    last, in bytes; trips of the chains; room for energies, ``strips of all layers x rows``; base and difference of every layer,
    in whole tiles; words of bits; the flows' weights; room for the fields of the first colour's blocks, ``strips x rows x 32``
    with whole blocks of 32 rows.
    """
    head = carray(data[0], _HEAD, np.int64)
    layers, blocks = head[1], head[2]
    numbers = carray(data[0], _HEAD + layers + blocks + 3 * head[3], np.int64)[_HEAD:]
    layout = layout_of(head[0], layers, blocks, _BASES + 2 * layers, numbers, head[7])
    tempered = Tempered(head[5], head[6], _BASES, _BASES + layers, layout.weights + head[3])
    temper(data, layout, tempered, head[4])
