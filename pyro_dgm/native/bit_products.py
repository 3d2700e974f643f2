"""The compiled loop behind products of bits with a matrix: what is known to be bits goes by tables of sums or by matrix units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from .tables import multiply_by_tables
from .team import for_a_team, meet
from .unit_products import multiply_by_units
from .words import find_bits, find_bits_of_columns


@for_a_team
def multiply_bits(data: Any) -> None:
    """Fill in the product of a matrix of bits with another, and raise a flag where a factor does not allow it.

    It is 1 where the first one has anything but zeros and ones, and 2 where the second is not finite. Behind the first pointer:
    rows, inner size, columns, tiles, whether the second is stored transposed, the size of what is added, chunks, whether the bits
    are stored transposed, whether the product is to be, and whether matrix units multiply. Behind the others: bits; room for
    their words; the second factor; what is added; product; flag.
    """
    sizes = carray(data[0], 10, np.int64)
    rows, inner, columns, tiles = sizes[0], sizes[1], sizes[2], sizes[3]
    shape = (columns, inner) if sizes[4] else (inner, columns)
    words, flag = carray(data[2], (tiles, rows), np.uint32), carray(data[6], 1, np.int64)
    if sizes[7]:
        other_numbers = find_bits_of_columns(carray(data[1], (inner, rows), np.float32), words)
    else:
        other_numbers = find_bits(carray(data[1], (rows, inner), np.float32), words)
    if other_numbers:
        flag[0] = 1
    meet(data)
    if flag[0] == 1:
        return
    weight, plus = carray(data[3], shape, np.float32), carray(data[4], sizes[5], np.float32)
    product = carray(data[5], (columns, rows) if sizes[8] else (rows, columns), np.float32)
    if sizes[9]:
        finite = multiply_by_units(words, weight, sizes[4], plus, product, sizes[6], sizes[8])
    else:
        finite = multiply_by_tables(words, weight, sizes[4], plus, product, sizes[6], sizes[8])
    if not finite:
        flag[0] = 2
