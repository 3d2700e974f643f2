"""The compiled loop that lays weights out for many products of bits: as tiles for tables of sums, or as matrix units' terms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from .machine_code import compiled
from .matrix_units import STRIP
from .tables import aligned_halves, copy_block
from .team import for_a_team, own_part
from .unit_products import split_strip
from .vectors import HALF, TILE, copy_half


@compiled
def lay_out(weight: Any, transposed: Any, in_units: Any, target: Any) -> None:
    """Write this member's share of a matrix, or of its transpose, to an address: ``strips x tiles`` of terms, or
    ``strips x 2 x tiles`` of 32 rows of 16 columns."""
    rows, columns = (weight.shape[1], weight.shape[0]) if transposed else weight.shape
    inner, strips = (rows + TILE - 1) // TILE, (columns + TILE - 1) // TILE
    block = aligned_halves(TILE)
    first, end = own_part(strips)
    for strip in range(first, end):
        if in_units:
            split_strip(weight, transposed, np.int64(0), inner, strip * TILE, block, target + strip * inner * STRIP)
        else:
            for tile in range(inner):
                copy_block(weight, transposed, tile * TILE, strip * TILE, block)
                for half in range(2):
                    place = target + ((2 * strip + half) * inner + tile) * TILE * HALF
                    for i in range(TILE):
                        copy_half(block[half, i].ctypes.data, place + i * HALF)


@for_a_team
def lay_out_weights(data: Any) -> None:
    """Lay some matrices out. Behind the first pointer: their number, whether for matrix units, and of every matrix its stored
    rows and columns and whether its transpose is meant. Behind the others: the matrices; room for what is made of them."""
    head = carray(data[0], 2, np.int64)
    number, in_units = head[0], head[1]
    shapes = carray(data[0], 2 + 3 * number, np.int64)[2:]
    for place in range(number):
        stored = carray(data[1 + place], (shapes[3 * place], shapes[3 * place + 1]), np.float32)
        room = carray(data[1 + number + place], 1, np.float32)
        lay_out(stored, shapes[3 * place + 2], in_units, np.int64(room.ctypes.data))
