"""The compiled loops behind products of bits with a matrix: by tables of sums, or by matrix units."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray

from .machine_code import compiled
from .tables import multiply_by_tables
from .team import for_a_team, meet
from .unit_products import multiply_by_units
from .words import find_bits, find_bits_of_columns


class Factors(NamedTuple):
    """What is multiplied and where to, as arrays: words of bits, the other factor, what is added, the product; a flag."""

    words: Any
    weight: Any
    plus: Any
    product: Any
    flag: Any


@compiled
def factors(data: Any) -> Any:
    """The arrays, once every member of the team has read its share of the bits; the flag is 1 where there are other numbers.

    Behind the first pointer: rows, inner size, columns, tiles, whether the second factor is stored transposed, the size of what
    is added, chunks, whether the bits are stored transposed, and whether the product is to be. Behind the others: bits; room
    for their words; the second factor; what is added; product; flag.
    """
    sizes = carray(data[0], 9, np.int64)
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
    weight, plus = carray(data[3], shape, np.float32), carray(data[4], sizes[5], np.float32)
    product = carray(data[5], (columns, rows) if sizes[8] else (rows, columns), np.float32)
    return Factors(words, weight, plus, product, flag)


@for_a_team
def multiply_bits_by_tables(data: Any) -> None:
    """Fill in the product of a matrix of bits with another, and raise a flag where a factor does not allow it.

    It is 1 where the first one has anything but zeros and ones, and 2 where the second is not finite.
    """
    f, sizes = factors(data), carray(data[0], 9, np.int64)
    if f.flag[0] != 1 and not multiply_by_tables(f.words, f.weight, sizes[4], f.plus, f.product, sizes[6], sizes[8]):
        f.flag[0] = 2


@for_a_team
def multiply_bits_by_units(data: Any) -> None:
    """The same by matrix units."""
    f, sizes = factors(data), carray(data[0], 9, np.int64)
    if f.flag[0] != 1 and not multiply_by_units(f.words, f.weight, sizes[4], f.plus, f.product, sizes[6], sizes[8]):
        f.flag[0] = 2
