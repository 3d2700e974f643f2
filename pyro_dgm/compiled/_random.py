"""Exact random bits from half as many random words."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def bits(key: Any, p: Any) -> Any:
    r"""Booleans with $P(\text{true}) = p$.

    With sixteen random bits u and a uniform number r that a row shares, $u + r < 2^{16} p$ decides; u and r together are
    uniform on $[0, 2^{16})$, so every probability is exact to the rounding of ``p``. Two entries of a row depend on each
    other only where both u equal the whole part of their $2^{16} p$, which happens once in $2^{32}$ pairs.

    Args:
        key: a JAX random key.
        p: probabilities, any shape.

    Example:
        >>> bits(jax.random.PRNGKey(0), jnp.array([0.0, 1.0])).tolist()
        [False, True]
    """
    *rows, length = p.shape
    first, second = jax.random.split(key)
    words = jax.random.bits(first, (*rows, (length + 1) // 2), jnp.uint32)
    halves = jnp.concatenate([words & 0xFFFF, words >> 16], -1)[..., :length]
    return halves.astype(p.dtype) + jax.random.uniform(second, (*rows, 1), p.dtype) < 65536 * p
