"""The compiled loop behind many steps of parallel tempering of binary layers; imported at its first use."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray

from .bit_products import CHUNK, TABLE, aligned, begin_sums
from .bit_sweeps import PIECE, add_flows, draw_words, layout_of, tiles
from .bits import BLOCK, increment, mix
from .intrinsics import BYTES, TILE, copy_row, interpolate_row, sum_selected
from .loops import compiled, for_a_team, meet, share

_HEAD = 7


@compiled
def swap_chain(
    gaps: Any,
    betas: Any,
    first: Any,
    from_base: Any,
    trips: Any,
    chain: Any,
    rate: Any,
    source: Any,
    state: Any,
    gamma: Any,
) -> Any:
    """Swaps of even and then of odd neighbours among the rows of a chain, from row ``first`` on; returns the stream's state."""
    temperatures = betas.size
    order, gap = np.empty(temperatures, np.int64), np.zeros(temperatures)
    for t in range(temperatures):
        order[t] = t
        for strip in range(gaps.shape[1]):
            gap[t] += np.float64(gaps[first + t, strip])
    for parity in range(2):
        for t in range(parity, temperatures - 1, 2):
            probability = math.exp(min((betas[t + 1] - betas[t]) * (gap[order[t]] - gap[order[t + 1]]), 0.0))
            rate[t] += probability
            state += gamma
            if np.float64(mix(state) >> np.uint64(11)) * 2.0**-53 < probability:
                order[t], order[t + 1] = order[t + 1], order[t]
    climbing = np.empty(temperatures, np.uint8)
    for t in range(temperatures):
        source[first + t] = first + order[t]
        climbing[t] = from_base[first + order[t]]
    trips[chain] += np.int64(climbing[temperatures - 1])
    climbing[temperatures - 1], climbing[0] = 0, 1
    for t in range(temperatures):
        from_base[first + t] = climbing[t]
    return state


@compiled
def steps_of(data: Any, layout: Any, layers: Any, steps: Any, temperatures: Any, early: Any) -> None:
    rows, bases, differences, fields = layout.rows, 8, 8 + layers, layout.weights + layout.ends.size // 2
    seeds, betas = carray(data[1], 4, np.uint64), carray(data[2], temperatures, np.float64)
    rate, source = carray(data[3], temperatures - 1, np.float64), carray(data[4], rows, np.int64)
    from_base, trips = carray(data[5], rows, np.uint8), carray(data[6], rows // temperatures, np.int64)
    total = 0
    for size in layout.sizes:
        total += tiles(size)
    gaps = carray(data[7], (rows, total), np.float32)
    gamma, swapping, state = increment(seeds[1]), increment(seeds[3]), seeds[2]
    table, nothing = aligned(TABLE), np.zeros(TILE, np.float32)
    sums, logits = aligned(min(rows, CHUNK)), aligned(min(rows, CHUNK))
    found, room, inverse = np.empty(BLOCK, np.float32), np.empty(BLOCK // 4, np.uint64), np.empty(BLOCK, np.float32)
    chunks, pieces = (rows + CHUNK - 1) // CHUNK, (rows + PIECE - 1) // PIECE
    done = 0
    for _ in range(steps):
        offset = 0
        for place in range(layout.order.size):
            layer = layout.order[place]
            strips = tiles(layout.sizes[layer])
            difference = carray(data[differences + layer], (strips, TILE), np.float32)
            words = carray(data[layout.words + layer], (strips, rows), np.uint32)
            field = carray(data[fields + min(place, early - 1)], (rows, strips, TILE), np.float32)
            first, end = share(strips * chunks)
            for part in range(first, end):
                strip, top = part // chunks, part % chunks * CHUNK
                height = min(CHUNK, rows - top)
                if place < early:
                    begin_sums(nothing[:0], 0, height, sums)
                    add_flows(data, layout, place, strip, top, height, table, sums)
                change = difference.ctypes.data + strip * BYTES
                for i in range(height):
                    brought = nothing.ctypes.data
                    if place < early:
                        brought = field.ctypes.data + ((top + i) * strips + strip) * BYTES
                        copy_row(sums.ctypes.data + i * BYTES, brought)
                    gaps[top + i, offset + strip] = sum_selected(words[strip, top + i], change, brought)
            offset += strips
        meet()
        alone, end = share(1)
        for _alone in range(alone, end):
            for chain in range(rows // temperatures):
                row = chain * temperatures
                state = swap_chain(gaps, betas, row, from_base, trips, chain, rate, source, state, swapping)
        meet()
        for place in range(layout.order.size):
            layer = layout.order[place]
            strips = tiles(layout.sizes[layer])
            base = carray(data[bases + layer], (strips, TILE), np.float32)
            difference = carray(data[differences + layer], (strips, TILE), np.float32)
            words = carray(data[layout.words + layer], (strips, rows), np.uint32)
            field = carray(data[fields + min(place, early - 1)], (rows, strips, TILE), np.float32)
            first, end = share(strips * chunks)
            for part in range(first, end):
                strip, top = part // chunks, part % chunks * CHUNK
                height = min(CHUNK, rows - top)
                if place >= early:
                    begin_sums(nothing[:0], 0, height, sums)
                    add_flows(data, layout, place, strip, top, height, table, sums)
                start, change = base.ctypes.data + strip * BYTES, difference.ctypes.data + strip * BYTES
                for i in range(height):
                    brought = sums.ctypes.data + i * BYTES
                    if place < early:
                        brought = field.ctypes.data + (source[top + i] * strips + strip) * BYTES
                    beta = np.float32(betas[(top + i) % temperatures])
                    interpolate_row(start, change, brought, beta, logits.ctypes.data + i * BYTES)
                number = done + strip * pieces + top // PIECE
                draw_words(logits, height, seeds, gamma, number, found, room, inverse, words[strip, top : top + height])
            done += strips * pieces
            meet()


@for_a_team
def temper_bits(data: Any) -> None:
    """Steps of parallel tempering of layers of bits in two colours; rows are chains x temperatures.

    Fields of the first colour serve energies and, with the replicas that traded places, its draw; the second colour, which
    nothing reads before it is drawn, stays where it is.

    Behind the first pointer: rows, layers, blocks, flows, steps, temperatures, blocks of the first colour, and the numbers of
    ``sweep_bits``. Behind the others: four seeds; inverse temperatures in double precision; the summed swap probabilities of
    every pair; room for a row's source; which rows were at the lowest inverse temperature last, in bytes; trips of the
    chains; room for energies, ``rows x strips of all layers``; base and difference of every layer, in whole tiles; words of
    bits; the flows' weights; room for the fields of the first colour's blocks, ``rows x strips x 32``.
    """
    head = carray(data[0], _HEAD, np.int64)
    layers, blocks = head[1], head[2]
    numbers = carray(data[0], _HEAD + layers + blocks + 2 * head[3], np.int64)[_HEAD:]
    layout = layout_of(head[0], layers, blocks, 8 + 2 * layers, numbers)
    steps_of(data, layout, layers, head[4], head[5], head[6])
