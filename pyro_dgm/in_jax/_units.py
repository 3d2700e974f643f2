"""Units in JAX: statistics, log-partition functions and draws of every kind, over arrays of atoms.

A layer is ``batch_shape x atoms``, or ``batch_shape x atoms x inner`` where an atom has several numbers; natural
parameters come as one array per statistic, of the same shape. Nothing is shared with the torch units.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ._random import bits

Eta = tuple[Any, ...]


class Units(ABC):
    """One kind of unit."""

    statistics: ClassVar[int] = 1
    exact: ClassVar[bool] = True
    """Whether every statistic is a small integer."""

    @abstractmethod
    def T(self, x: Any) -> Eta:
        """The sufficient statistics."""

    @abstractmethod
    def A(self, eta: Eta) -> Any:
        """The log-partition function of every atom, in nats."""

    def rise(self, before: Eta, after: Eta) -> Any:
        """A(after) - A(before), one value per atom, for neighbouring parameters."""
        return self.A(after) - self.A(before)

    @abstractmethod
    def draw(self, key: Any, eta: Eta) -> Any:
        """A state for every entry of the natural parameters."""

    def draw_clamped(self, key: Any, eta: Eta, mask: Any, value: Any) -> Any:
        """A state given that it equals ``value`` where ``mask`` holds."""
        return jnp.where(mask, value, self.draw(key, eta))

    @abstractmethod
    def states(self, inner: int) -> Any:
        """All states of an atom; None where they cannot be listed."""

    def finite(self, inner: int) -> Any:
        """All states of an atom's finite part, with its real-valued entries at zero."""
        return self.states(inner)

    def degrees(self, inner: int) -> tuple[Any, ...]:
        """The order of each statistic's entries in the real-valued entries of an atom.

        Entries of order one in the first statistic are the real-valued ones.
        """
        return (np.zeros(inner, int),) * self.statistics

    @abstractmethod
    def fits(self, mask: Any, x: Any) -> Any:
        """A mask of the atoms that can take all entries of ``x`` where ``mask`` holds."""

    def supports(self, x: Any) -> Any:
        """A mask of the atoms that hold a value that the unit can take."""
        return self.fits(jnp.ones_like(x, bool), x)


class BinaryUnits(Units):
    """Units that are 0 or 1."""

    def T(self, x: Any) -> Eta:
        return (x,)

    def A(self, eta: Eta) -> Any:
        return jax.nn.softplus(eta[0])

    def rise(self, before: Eta, after: Eta) -> Any:
        step = after[0] - before[0]
        return jax.lax.cond(jnp.abs(step).max() > 1, self._far, self._near, before[0], step)

    def _far(self, before: Any, step: Any) -> Any:
        return jax.nn.softplus(before + step) - jax.nn.softplus(before)

    def _near(self, before: Any, step: Any) -> Any:
        """The rise without cancellation, from the side on which the probability is below a half."""
        upper = before > 0
        sign = jnp.where(upper, -1, 1)
        return jnp.log1p(jax.nn.sigmoid(sign * before) * jnp.expm1(sign * step)) + jnp.where(upper, step, 0)

    def draw(self, key: Any, eta: Eta) -> Any:
        return bits(key, jax.nn.sigmoid(eta[0])).astype(eta[0].dtype)

    def states(self, inner: int) -> Any:
        return np.array([0.0, 1.0])

    def fits(self, mask: Any, x: Any) -> Any:
        return ~mask | (x == 0) | (x == 1)


class SpinUnits(Units):
    """Units that are -1 or 1."""

    def T(self, x: Any) -> Eta:
        return (x,)

    def A(self, eta: Eta) -> Any:
        return jnp.logaddexp(eta[0], -eta[0])

    def draw(self, key: Any, eta: Eta) -> Any:
        return 2 * bits(key, jax.nn.sigmoid(2 * eta[0])).astype(eta[0].dtype) - 1

    def states(self, inner: int) -> Any:
        return np.array([-1.0, 1.0])

    def fits(self, mask: Any, x: Any) -> Any:
        return ~mask | (jnp.abs(x) == 1)


class CategoricalUnits(Units):
    """Units that are one-hot rows."""

    def T(self, x: Any) -> Eta:
        return (x,)

    def A(self, eta: Eta) -> Any:
        return jax.nn.logsumexp(eta[0], -1)

    def draw(self, key: Any, eta: Eta) -> Any:
        return jax.nn.one_hot(jax.random.categorical(key, eta[0]), eta[0].shape[-1], dtype=eta[0].dtype)

    def draw_clamped(self, key: Any, eta: Eta, mask: Any, value: Any) -> Any:
        chosen = mask & (value == 1)
        excluded = jnp.where(chosen.any(-1, keepdims=True), ~chosen, mask & (value == 0))
        return self.draw(key, (jnp.where(excluded, -jnp.inf, eta[0]),))

    def states(self, inner: int) -> Any:
        return np.eye(inner)

    def fits(self, mask: Any, x: Any) -> Any:
        ones = (mask & (x == 1)).sum(-1)
        return (~mask | (x == 0) | (x == 1)).all(-1) & (ones <= 1) & ~(mask.all(-1) & (ones == 0))


class GaussianUnits(Units):
    r"""Units on the real line, $T = (x, (x - o)^2)$, $\eta = (\beta(\mu - o), -\beta/2)$, with an origin o of every atom."""

    statistics = 2
    exact = False

    def __init__(self, origin: Any = 0.0) -> None:
        self.origin = origin

    def T(self, x: Any) -> Eta:
        return x, jnp.square(x - self.origin)

    def A(self, eta: Eta) -> Any:
        return self.origin * eta[0] - jnp.square(eta[0]) / (4 * eta[1]) + 0.5 * jnp.log(math.pi / -eta[1])

    def draw(self, key: Any, eta: Eta) -> Any:
        variance = -0.5 / eta[1]
        noise = jax.random.normal(key, jnp.shape(eta[0]), eta[0].dtype)
        return self.origin + (eta[0] * variance + jnp.sqrt(variance) * noise)

    def states(self, inner: int) -> Any:
        return None

    def finite(self, inner: int) -> Any:
        return np.zeros(1)

    def degrees(self, inner: int) -> tuple[Any, ...]:
        return np.ones(inner, int), np.full(inner, 2)

    def fits(self, mask: Any, x: Any) -> Any:
        return ~mask | jnp.isfinite(x)


class SpikeSlabUnits(Units):
    r"""Units of a spike and slabs $(h, s)$, with $T = ((h, hs), (0, s^2))$ and $\eta = ((b, c), (\cdot, -\alpha/2))$."""

    statistics = 2
    exact = False

    def T(self, x: Any) -> Eta:
        h, s = x[..., :1], x[..., 1:]
        return jnp.concatenate([h, h * s], -1), jnp.concatenate([jnp.zeros_like(h), jnp.square(s)], -1)

    def A(self, eta: Eta) -> Any:
        alpha = -2 * eta[1][..., 1:]
        return 0.5 * jnp.log(2 * math.pi / alpha).sum(-1) + jax.nn.softplus(self._logit(eta))

    def draw(self, key: Any, eta: Eta) -> Any:
        first, second = jax.random.split(key)
        h = bits(first, jax.nn.sigmoid(self._logit(eta)))
        return self._with_slabs(second, h, eta)

    def draw_clamped(self, key: Any, eta: Eta, mask: Any, value: Any) -> Any:
        first, second = jax.random.split(key)
        c, alpha = eta[0][..., 1:], -2 * eta[1][..., 1:]
        evidence = jnp.where(mask[..., 1:], c * value[..., 1:], jnp.square(c) / (2 * alpha)).sum(-1)
        h = jnp.where(mask[..., 0], value[..., 0] == 1, bits(first, jax.nn.sigmoid(eta[0][..., 0] + evidence)))
        return jnp.where(mask, value, self._with_slabs(second, h, eta))

    def states(self, inner: int) -> Any:
        return None

    def finite(self, inner: int) -> Any:
        return np.eye(2, inner, -1)

    def degrees(self, inner: int) -> tuple[Any, ...]:
        slabs = np.r_[0, np.ones(inner - 1, int)]
        return slabs, 2 * slabs

    def fits(self, mask: Any, x: Any) -> Any:
        h = x[..., 0]
        return (~mask | jnp.isfinite(x)).all(-1) & (~mask[..., 0] | (h == 0) | (h == 1))

    def _logit(self, eta: Eta) -> Any:
        c, alpha = eta[0][..., 1:], -2 * eta[1][..., 1:]
        return eta[0][..., 0] + (jnp.square(c) / (2 * alpha)).sum(-1)

    def _with_slabs(self, key: Any, h: Any, eta: Eta) -> Any:
        c, alpha = eta[0][..., 1:], -2 * eta[1][..., 1:]
        h = h[..., None].astype(c.dtype)
        slabs = h * c / alpha + jax.random.normal(key, c.shape, c.dtype) / jnp.sqrt(alpha)
        return jnp.concatenate([h, slabs], -1)


def units(kind: str, origin: Any = None) -> Units:
    """Units of a kind, with the squares of Gaussian ones about an origin of every atom."""
    return KINDS[kind] if origin is None else GaussianUnits(origin)


KINDS: dict[str, Units] = {
    "binary": BinaryUnits(),
    "spin": SpinUnits(),
    "categorical": CategoricalUnits(),
    "gaussian": GaussianUnits(),
    "spike and slab": SpikeSlabUnits(),
}
