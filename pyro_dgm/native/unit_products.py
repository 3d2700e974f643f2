"""Compiled products of bits with a matrix by the processor's matrix units; imported at the first large one.

A number of single precision is the sum of three of bfloat16, so that three products by the units are one in single precision:
nothing of the other factor is rounded. Its terms are made where they are used, as tables of sums are elsewhere (``tables``),
for strips of 32 columns and up to 32 tiles of rows, which stay in the second-level cache while all states pass by; words of bits
are spread out in the first-level one, a tile before they are multiplied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .machine_code import compiled
from .matrix_units import (
    SIDE,
    STRIP,
    UNIT_TILE,
    add_products_of_block,
    add_products_of_pair,
    configure,
    copy_words,
    fetch_to_write,
    load_sums_of_block,
    load_sums_of_pair,
    restore,
    split_rows,
    spread_bits,
    store_sums_of_block,
    store_sums_of_pair,
)
from .tables import aligned, aligned_halves, begin_sums, copy_block, write_across, write_sums
from .team import own_part
from .vectors import BYTES, HALF, TILE

DEPTH = 32
"""The most tiles whose terms are kept at once: 192 KB."""

UNIT_CHUNK = 2048
"""The most states whose sums are kept beside them."""


class Room(NamedTuple):
    """A member's own memory for products: terms, bits of two tiles of 32 states, words of the last states, a configuration."""

    terms: Any
    bits: Any
    words: Any
    before: Any


@compiled
def room_for_units(tiles: Any) -> Any:
    """Memory for products by the units, with the terms of so many tiles."""
    return Room(aligned(tiles * STRIP // BYTES), aligned(4 * UNIT_TILE // BYTES), np.zeros(TILE, np.uint32), aligned(1))


class Place(NamedTuple):
    """Where 32 columns of rows lie: addresses of both halves of the first row, and the bytes from row to row."""

    left: Any
    right: Any
    stride: Any


@compiled
def place_of(left: Any, right: Any, stride: Any) -> Any:
    """A place as whole numbers of one type; without a stride all rows are the same one."""
    return Place(np.int64(left), np.int64(right), np.int64(stride))


@compiled
def whole_blocks(rows: Any) -> Any:
    """The number of states whose sums the units move: a block is 32 of them."""
    return (rows + TILE - 1) // TILE * TILE


@compiled
def add_terms(
    words: Any, first: Any, tiles: Any, top: Any, height: Any, terms: Any, room: Any, source: Any, target: Any
) -> None:
    """Write the sums at one place, plus the products of some tiles' bits with their terms, to another: whole blocks of states.

    Of the bits there are those of ``height`` states. Terms come by their address, ``tiles x 3 x 2 x 16 x 32``.
    """
    edge, bits = room.words.ctypes.data, room.bits.ctypes.data
    down, begin_words = 4 * words.shape[1], words[first].ctypes.data + 4 * top
    configure(room.before.ctypes.data)
    for begin in range(0, height, TILE):
        rows, up, to = height - begin, begin * source.stride, begin * target.stride
        if rows > SIDE:
            load_sums_of_pair(source.left + up, source.right + up, source.stride)
        else:
            load_sums_of_block(source.left + up, source.right + up, source.stride)
        if begin + TILE < height:
            fetch_to_write(
                target.left + to + TILE * target.stride, target.right + to + TILE * target.stride, target.stride
            )
        for tile in range(tiles + 1):
            if tile < tiles:
                own_words = begin_words + tile * down + 4 * begin
                if rows < TILE:
                    copy_words(own_words, rows, edge)
                    own_words = edge
                spread_bits(own_words, bits + tile % 2 * (2 * UNIT_TILE))
            if tile > 0 and rows > SIDE:
                add_products_of_pair(bits + (tile - 1) % 2 * (2 * UNIT_TILE), terms + (tile - 1) * STRIP)
            elif tile > 0:
                add_products_of_block(bits + (tile - 1) % 2 * (2 * UNIT_TILE), terms + (tile - 1) * STRIP)
        if rows > SIDE:
            store_sums_of_pair(target.left + to, target.right + to, target.stride)
        else:
            store_sums_of_block(target.left + to, target.right + to, target.stride)
    restore(room.before.ctypes.data)


@compiled
def split_tile(source: Any, stride: Any, half: Any, target: Any) -> None:
    """Make the terms of 32 rows of a half of 16 columns."""
    for pair in range(SIDE):
        split_rows(source + 2 * pair * stride, stride, target + half * UNIT_TILE + pair * HALF)


@compiled
def split_strip(weight: Any, transposed: Any, first: Any, tiles: Any, left: Any, block: Any, terms: Any) -> None:
    """Make the terms of some tiles of a matrix or of its transpose, 32 columns from ``left`` on."""
    rows, columns = (weight.shape[1], weight.shape[0]) if transposed else weight.shape
    across = weight.shape[1] * 4
    for tile in range(tiles):
        up, target = (first + tile) * TILE, terms + tile * STRIP
        in_place = not transposed and up + TILE <= rows and left + TILE <= columns
        if not in_place:
            copy_block(weight, transposed, up, left, block)
        for half in range(2):
            if in_place:
                split_tile(weight.ctypes.data + up * across + left * 4 + half * HALF, across, half, target)
            else:
                split_tile(block[half].ctypes.data, HALF, half, target)


@compiled
def multiply_by_units(
    words: Any, weight: Any, transposed: Any, plus: Any, product: Any, chunks: Any, across: Any
) -> Any:
    """Fill in this member's share of ``bits @ weight + plus``, or of the transposed weight's, in ``chunks`` chunks of rows.

    With ``across`` the transpose of the product is filled in. Returns whether all is finite: an infinite weight makes NaN of
    its column, also where no bit selects it, since its terms are infinite and NaN.
    """
    rows, columns = words.shape[1], weight.shape[0] if transposed else weight.shape[1]
    chunk, strips = (rows + chunks - 1) // chunks, (columns + TILE - 1) // TILE
    room, block = room_for_units(DEPTH), aligned_halves(TILE)
    own, start = aligned_halves(whole_blocks(chunk)), aligned_halves(1)
    own_place = place_of(own[0].ctypes.data, own[1].ctypes.data, HALF)
    start_place = place_of(start[0].ctypes.data, start[1].ctypes.data, 0)
    nothing, terms = np.float32(0), np.int64(room.terms.ctypes.data)
    first, end = own_part(chunks * strips)
    for task in range(first, end):
        top, left = task // strips * chunk, task % strips * TILE
        height = min(chunk, rows - top)
        in_place = height // TILE * TILE if not across and left + TILE <= columns else 0
        corner, stride = product.ctypes.data + (top * product.shape[1] + left) * 4, product.shape[1] * 4
        place = place_of(corner, corner + HALF, stride)
        begin_sums(plus, left, 1, start)
        for tile in range(0, words.shape[0], DEPTH):
            tiles = min(DEPTH, words.shape[0] - tile)
            split_strip(weight, transposed, tile, tiles, left, block, terms)
            if in_place > 0:
                add_terms(words, tile, tiles, top, in_place, terms, room, place if tile else start_place, place)
            if height > in_place:
                source = own_place if tile else start_place
                add_terms(words, tile, tiles, top + in_place, height - in_place, terms, room, source, own_place)
        if across:
            write_across(own, height, top, left, product)
        elif height > in_place:
            write_sums(own, height - in_place, top + in_place, left, product)
        for j in range(left, min(left + TILE, columns)):
            nothing += np.float32(0) * (product[j, top] if across else product[top, j])
    return nothing == 0
