"""The compiled loop behind many Gibbs sweeps of binary layers; imported at its first use.

States are words of bits, ``tiles x rows`` for every layer: the words of one tile lie side by side, as a table of sums takes
them. For many sweeps weights are half tiles of 32 x 16, ``strips x 2 x tiles`` (half a strip reads its tiles one behind the
other), or terms of matrix units; for few they are the matrices, of which tiles or terms are made where they are used. A block is
cut into strips and chunks of 512 rows, which the team's members share; their sums, logits and bits stay in the nearest caches,
and only words go back to memory. After every block all members wait, since the next block reads it. Cost: twenty-six additions of
16 columns per pair of tiles and row (see ``tables``), and the draws of bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray

from .draw_vectors import WORDS
from .machine_code import compiled
from .matrix_units import STRIP
from .random_bits import BLOCK, draw_word, increment, stream
from .tables import (
    CHUNK,
    TABLE,
    add_tiles,
    aligned,
    aligned_halves,
    begin_sums,
    copy_block,
    halves_of,
    join_halves,
    look_up_rows,
)
from .team import for_a_team, meet, own_part
from .unit_products import DEPTH, add_terms, place_of, room_for_units, split_strip, whole_blocks
from .vectors import BYTES, HALF, TILE

HEAD = 6
PIECE = BLOCK // TILE
"""Rows of a block of random bits."""


@compiled
def tiles(size: Any) -> Any:
    """The number of tiles, or of strips, that hold ``size`` units."""
    return (size + TILE - 1) // TILE


@compiled
def draw_words(logits: Any, height: Any, seeds: Any, gamma: Any, part: Any, edge: Any, words: Any) -> None:
    """Fill in words of bits by the logits of ``height`` rows; every 32 rows have their own part of the stream."""
    for piece in range((height + PIECE - 1) // PIECE):
        state = stream(seeds[0], gamma, part + piece, BLOCK)
        ties = state + gamma * np.uint64(BLOCK // 4)
        for i in range(piece * PIECE, min((piece + 1) * PIECE, height)):
            words[i], ties = draw_word(logits.ctypes.data + i * BYTES, state, ties, gamma, edge.ctypes.data)
            state += gamma * np.uint64(WORDS)


PACKED, AS_IT_IS, TRANSPOSED = 0, 1, 2
"""Forms of a flow's weights: laid out for the loop, a matrix from which the loop takes what it needs, or the transpose of one."""


class Layout(NamedTuple):
    """The layout of a machine of bits in memory: sizes of the layers, the layer of every block, the block that every flow leads
    to, the layer that it comes from and the form of its weights; the pointers where words and weights begin; whether matrix
    units multiply."""

    rows: Any
    sizes: Any
    order: Any
    ends: Any
    words: Any
    weights: Any
    in_units: Any


class Work(NamedTuple):
    """A member's own memory for products: a table and sums in halves, or what matrix units need and one row in halves; and one
    or two tiles of weights that are not laid out."""

    table: Any
    halves: Any
    room: Any
    tile: Any
    pair: Any


@compiled
def work_for(layout: Any) -> Any:
    """Memory for the products of a machine."""
    loose = False
    for flow in range(layout.ends.size // 3):
        loose |= layout.ends[3 * flow + 2] != PACKED
    rows, depth = 1 if layout.in_units else min(layout.rows, CHUNK), DEPTH if loose and layout.in_units else 0
    table, halves = aligned(1 if layout.in_units else TABLE), aligned_halves(rows)
    return Work(table, halves, room_for_units(depth), aligned_halves(TILE), aligned_halves(2 * TILE if loose else 1))


@compiled
def add_flow_by_units(
    data: Any, layout: Any, flow: Any, strip: Any, top: Any, height: Any, work: Any, before: Any, after: Any
) -> None:
    """Write sums at one place, plus what a flow contributes to a strip of its block, to another, by matrix units."""
    source, form = layout.ends[3 * flow + 1], layout.ends[3 * flow + 2]
    size, columns = layout.sizes[source], layout.sizes[layout.order[layout.ends[3 * flow]]]
    inner = tiles(size)
    words = carray(data[layout.words + source], (inner, layout.rows), np.uint32)
    if form == PACKED:
        strips = tiles(columns)
        terms = carray(data[layout.weights + flow], (strips, inner * STRIP), np.uint8)[strip].ctypes.data
        add_terms(words, np.int64(0), inner, top, height, terms, work.room, before, after)
        return
    shape = (size, columns) if form == AS_IT_IS else (columns, size)
    weight, terms = carray(data[layout.weights + flow], shape, np.float32), np.int64(work.room.terms.ctypes.data)
    for tile in range(0, inner, DEPTH):
        deep = min(DEPTH, inner - tile)
        split_strip(weight, np.int64(form == TRANSPOSED), tile, deep, strip * TILE, work.tile, terms)
        add_terms(words, tile, deep, top, height, terms, work.room, after if tile else before, after)


@compiled
def add_flow_by_tables(data: Any, layout: Any, flow: Any, strip: Any, top: Any, height: Any, work: Any) -> None:
    """Add what a flow contributes to a strip of its block to a member's sums, by tables."""
    source, form = layout.ends[3 * flow + 1], layout.ends[3 * flow + 2]
    size, columns = layout.sizes[source], layout.sizes[layout.order[layout.ends[3 * flow]]]
    inner, halves = tiles(size), halves_of(columns, strip)
    words = carray(data[layout.words + source], (inner, layout.rows), np.uint32)
    if form == PACKED:
        weight = carray(data[layout.weights + flow], (tiles(columns), 2, inner, TILE, TILE // 2), np.float32)
        add_tiles(words, weight[strip], halves, top, height, work.table, work.halves)
        return
    loose = carray(data[layout.weights + flow], (size, columns) if form == AS_IT_IS else (columns, size), np.float32)
    for tile in range(0, inner, 2):
        block = work.pair if tile + 1 < inner else work.tile
        copy_block(loose, np.int64(form == TRANSPOSED), tile * TILE, strip * TILE, block)
        for half in range(halves):
            target = work.halves[half].ctypes.data
            look_up_rows(np.int64(block[half].ctypes.data), HALF, words, tile, top, height, work.table, target)


@compiled
def write_fields(
    data: Any, layout: Any, plus: Any, place: Any, strip: Any, top: Any, height: Any, work: Any, target: Any
) -> None:
    """Write a strip of ``plus``, or zeros, and what couplings contribute to that strip of a block, in ``height`` rows.

    The target is the address of rows of 32 numbers, whole blocks of 32 rows.
    """
    begin_sums(plus, strip * TILE, 1 if layout.in_units else height, work.halves)
    before = place_of(work.halves[0].ctypes.data, work.halves[1].ctypes.data, 0)
    after = place_of(target, target + HALF, BYTES)
    for flow in range(layout.ends.size // 3):
        if layout.ends[3 * flow] == place:
            if layout.in_units:
                add_flow_by_units(data, layout, flow, strip, top, height, work, before, after)
                before = after
            else:
                add_flow_by_tables(data, layout, flow, strip, top, height, work)
    if not layout.in_units:
        join_halves(work.halves, height, target, BYTES)
    elif before.stride == 0:
        for i in range(height):
            join_halves(work.halves, 1, target + i * BYTES, BYTES)


@compiled
def layout_of(rows: Any, layers: Any, blocks: Any, words: Any, numbers: Any, in_units: Any) -> Any:
    """The layout that the numbers behind a loop's head describe."""
    sizes, order, ends = numbers[:layers], numbers[layers : layers + blocks], numbers[layers + blocks :]
    return Layout(rows, sizes, order, ends, words, words + layers, in_units)


@compiled
def sweep(data: Any, layout: Any, sweeps: Any) -> None:
    """Draw this member's share of every block, sweep after sweep."""
    rows, seeds = layout.rows, carray(data[1], 2, np.uint64)
    gamma = increment(seeds[1])
    work, logits = work_for(layout), aligned(whole_blocks(min(rows, CHUNK)))
    edge = np.empty(TILE, np.float32)
    chunks, pieces = (rows + CHUNK - 1) // CHUNK, (rows + PIECE - 1) // PIECE
    done = 0
    for _ in range(sweeps):
        for place in range(layout.order.size):
            layer = layout.order[place]
            strips = tiles(layout.sizes[layer])
            bias = carray(data[2 + layer], layout.sizes[layer], np.float32)
            words = carray(data[layout.words + layer], (strips, rows), np.uint32)
            first, end = own_part(strips * chunks)
            for task in range(first, end):
                strip, top = task // chunks, task % chunks * CHUNK
                height = min(CHUNK, rows - top)
                write_fields(data, layout, bias, place, strip, top, height, work, logits.ctypes.data)
                part = done + strip * pieces + top // PIECE
                draw_words(logits, height, seeds, gamma, part, edge, words[strip, top : top + height])
            done += strips * pieces
            meet(data)


@for_a_team
def sweep_bits(data: Any) -> None:
    """Gibbs sweeps of layers of bits with dense couplings: the members share every block, and wait for one another after it.

    Behind the first pointer: rows, layers, blocks, flows, sweeps, whether matrix units multiply; the layers' sizes; the layer of
    every block; the block that every flow leads to, the layer that it comes from, and the form of its weights. Behind the others:
    two seeds; biases; words of bits ``tiles x rows``; the flows' weights ``strips x 2 x tiles x 32 x 16``, or their terms, or
    matrices.
    """
    head = carray(data[0], HEAD, np.int64)
    layers, blocks, flows = head[1], head[2], head[3]
    numbers = carray(data[0], HEAD + layers + blocks + 3 * flows, np.int64)[HEAD:]
    sweep(data, layout_of(head[0], layers, blocks, 2 + layers, numbers, head[5]), head[4])
