"""The compiled loop behind a few Gibbs sweeps of layers of bits, from numbers to numbers; imported at its first use.

Where parameters change after every sweep, as in training, nothing is worth laying out: terms and tables are made of the
matrices where they are used. One call reads the bits, sweeps and writes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from .machine_code import compiled
from .sweeps import HEAD, layout_of, sweep, tiles
from .team import for_a_team, meet, own_part
from .words import find_bits, write_rows_of_bits


@compiled
def _read(data: Any, layout: Any, first: Any) -> Any:
    """Read this member's rows of all layers; returns whether there was anything but bits."""
    other_numbers = False
    for layer in range(layout.sizes.size):
        shape = layout.rows, layout.sizes[layer]
        words = carray(data[layout.words + layer], (tiles(shape[1]), shape[0]), np.uint32)
        other_numbers |= find_bits(carray(data[first + layer], shape, np.float32), words)
    return other_numbers


@compiled
def _write(data: Any, layout: Any, first: Any) -> None:
    """Write this member's rows of all layers."""
    begin, end = own_part(layout.rows)
    for layer in range(layout.sizes.size):
        shape = layout.rows, layout.sizes[layer]
        words = carray(data[layout.words + layer], (tiles(shape[1]), shape[0]), np.uint32)
        write_rows_of_bits(words, begin, end, carray(data[first + layer], shape, np.float32))


@for_a_team
def sweep_numbers(data: Any) -> None:
    """Gibbs sweeps of layers of bits in single precision.

    Behind the first pointer: the numbers of ``sweep_bits``. Behind the others: what ``sweep_bits`` reads, with room for the
    words; the states before; those after; and a flag, which becomes 1 where there are other numbers than bits.
    """
    head = carray(data[0], HEAD, np.int64)
    layers, blocks, flows = head[1], head[2], head[3]
    numbers = carray(data[0], HEAD + layers + blocks + 3 * flows, np.int64)[HEAD:]
    layout = layout_of(head[0], layers, blocks, 2 + layers, numbers, head[5])
    states = layout.weights + flows
    flag = carray(data[states + 2 * layers], 1, np.int64)
    if _read(data, layout, states):
        flag[0] = 1
    meet(data)
    if flag[0] == 0:
        sweep(data, layout, head[4])
        _write(data, layout, states + layers)
