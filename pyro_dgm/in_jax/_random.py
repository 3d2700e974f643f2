"""Exact random bits from a quarter as many random numbers, by a generator that compiles to straight code."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

SHARED = 1024
"""Columns that share a number where their sixteen bits tie."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def bits(key: Any, p: Any) -> Any:
    r"""Booleans with $P(\text{true}) = p$.

    With sixteen random bits u and a uniform number r that 1024 columns of a row share, $u + r < 2^{16} p$ decides; u and r
    together are uniform on $[0, 2^{16})$, so every probability is exact to the rounding of ``p``. Two entries depend on each
    other only where they share r and both u equal the whole part of their $2^{16} p$: for one in $2^{32}$ pairs.

    Args:
        key: a JAX random key.
        p: probabilities, any shape.

    Example:
        >>> bits(jax.random.PRNGKey(0), jnp.array([0.0, 1.0])).tolist()
        [False, True]
    """
    *rows, length = p.shape
    first, second = jax.random.split(key)
    shape = math.prod(rows), -(-length // 4)
    word = jax.random.key_data(first) if jnp.issubdtype(first.dtype, jax.dtypes.prng_key) else first
    row, column = (lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (0, 1))
    words = jnp.concatenate(lax.optimization_barrier(threefry((word[0], word[1]), (row, column))), -1)
    halves = lax.bitcast_convert_type(words, jnp.uint16).reshape(*rows, -1)[..., :length]
    shared = jax.random.uniform(second, (*rows, -(-length // SHARED)), p.dtype)
    if length > SHARED:
        shared = jnp.broadcast_to(shared[..., None], (*shared.shape, SHARED)).reshape(*rows, -1)[..., :length]
    return shared < 65536 * p - halves.astype(p.dtype)


def threefry(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Threefry-2x32 of twenty rounds: two random words for every counter of two words.

    It is the generator behind JAX's own keys, whose loop over rounds compiles fast and runs several times slower than these
    rounds written out.

    Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3".

    Args:
        key: two words.
        counter: two arrays of words of one shape.
    """
    keys = (*key, key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = ((y << jnp.uint32(rotation)) | (y >> jnp.uint32(32 - rotation))) ^ x
        x, y = x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y
