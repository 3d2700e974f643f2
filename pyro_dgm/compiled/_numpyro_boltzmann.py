"""The Boltzmann machine as a NumPyro distribution, normalised by listing its states."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as numpyro_dist
from jax.scipy.special import logsumexp
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

LARGEST = 20
"""How many units are still enumerated."""


class _Spins(constraints.ParameterFreeConstraint):
    """Values -1 and 1."""

    is_discrete = True

    def __call__(self, x: Any) -> Any:
        return jnp.abs(x) == 1

    def feasible_like(self, prototype: Any) -> Any:
        return jnp.ones_like(prototype)


class NumPyroBoltzmann(numpyro_dist.Distribution):
    r"""The visible units of a Boltzmann machine over one vector of binary units or spins.

    $p(v) = \sum_h e^{-E(v,h)} / Z$ with $-E(x) = b^\top x + \frac12 x^\top J x$ and $x = (v, h)$. Sums list every state
    of the units, so they are exact up to rounding and cost $2^{\text{units}}$. Everything is jitted and can be
    differentiated by ``bias`` and ``coupling``. Energies and log-probabilities are in nats.

    Args:
        bias: $b$, ``units``, the visible units first.
        coupling: $J$, ``units x units``, symmetric and of zero diagonal.
        visible: the number of visible units.
        low: for every unit the value it takes other than 1: 0 for a binary unit, -1 for a spin.
        validate_args: as in every NumPyro distribution.

    Raises:
        ValueError: shapes that do not fit, or values of ``low`` other than 0 and -1.

    See also:
        ``to_numpyro``, which reads these arguments out of a torch machine.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> pair = NumPyroBoltzmann(jnp.zeros(2), jnp.array([[0.0, 1.0], [1.0, 0.0]]), visible=2, low=(-1, -1))
        >>> aligned = jnp.exp(pair.log_prob(jnp.array([[1.0, 1.0], [-1.0, -1.0]]))).sum()
        >>> print(f"{aligned:.4f} {jax.nn.sigmoid(2.0):.4f}")
        0.8808 0.8808
    """

    arg_constraints = {"bias": constraints.real_vector, "coupling": constraints.real_matrix}
    pytree_data_fields = ("bias", "coupling")
    pytree_aux_fields = ("visible", "low")

    def __init__(
        self, bias: Any, coupling: Any, visible: int, low: tuple[int, ...], *, validate_args: bool | None = None
    ) -> None:
        self.bias, self.coupling = jnp.array(bias, float), jnp.array(coupling, float)
        self.visible, self.low = int(visible), tuple(int(value) for value in low)
        units = len(self.low)
        if self.bias.shape != (units,) or self.coupling.shape != (units, units):
            raise ValueError(
                f"bias got shape {self.bias.shape} and coupling {self.coupling.shape}; expected ({units},) and "
                f"({units}, {units}) for the {units} units in low"
            )
        if not 1 <= self.visible <= units:
            raise ValueError(f"visible got {visible}; expected a number from 1 to {units}, the number of units")
        if not set(self.low) <= {0, -1} or len(set(self.low[: self.visible])) != 1:
            raise ValueError("low got other values than 0 (binary) and -1 (spin), or both in the visible layer")
        super().__init__((), (self.visible,), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """What a value must look like."""
        return constraints.independent(_Spins() if self.low[0] else constraints.boolean, 1)

    @property
    def units(self) -> int:
        """The number of units, visible and hidden."""
        return len(self.low)

    @jax.jit
    def energy(self, x: Any) -> Any:
        r"""$E(x) = -b^\top x - \frac12 x^\top J x$ of all units, in nats.

        Args:
            x: ``batch_shape x units``, the visible units first.

        Returns:
            ``batch_shape``.
        """
        x = jnp.asarray(x, self.bias.dtype)
        return -(x @ self.bias) - ((x @ self.coupling) * x).sum(-1) / 2

    @jax.jit
    def free_energy(self, v: Any) -> Any:
        r"""$F(v) = -\log \sum_h e^{-E(v,h)}$ by listing the hidden units, in nats.

        Args:
            v: ``batch_shape x visible``.

        Returns:
            ``batch_shape``.

        Raises:
            ValueError: there are too many hidden units to list.
        """
        n = self.visible
        self._check(self.units - n, "hidden units")
        v = jnp.asarray(v, self.bias.dtype)
        given = v @ self.bias[:n] + ((v @ self.coupling[:n, :n]) * v).sum(-1) / 2
        if n == self.units:
            return -given
        h = self._states(n, self.units)
        alone = h @ self.bias[n:] + ((h @ self.coupling[n:, n:]) * h).sum(-1) / 2
        return -given - logsumexp((v @ self.coupling[:n, n:]) @ h.T + alone, axis=-1)

    @jax.jit
    def log_partition(self) -> Any:
        r"""$\log Z$, in nats, by listing all units.

        Raises:
            ValueError: there are more than 20.
        """
        return logsumexp(self._visible_logits())

    @validate_sample
    def log_prob(self, value: Any) -> Any:
        r"""$-F(v) - \log Z$, in nats.

        Args:
            value: ``batch_shape x visible``.

        Returns:
            ``batch_shape``.

        Raises:
            ValueError: there are more than 20 units.
        """
        return -self.free_energy(value) - self.log_partition()

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        r"""Independent exact draws of the visible units.

        Unit after unit is drawn from $p(v_i \mid v_{<i})$, whose terms are sums over the list of all states; no
        cumulative sum over that list loses small probabilities.

        Args:
            key: a JAX random key.
            sample_shape: how many.

        Returns:
            ``sample_shape x visible``.

        Raises:
            ValueError: there are more than 20 units.
        """
        return self._sample(key, tuple(sample_shape))

    @partial(jax.jit, static_argnums=2)
    def _sample(self, key: Any, sample_shape: tuple[int, ...]) -> Any:
        levels = [self._visible_logits()]
        for _ in range(self.visible):
            levels.append(logsumexp(levels[-1].reshape(-1, 2), axis=-1))
        node = jnp.zeros(sample_shape, int)
        values = []
        uniform = jax.random.uniform(key, (self.visible, *sample_shape), self.bias.dtype)
        for level, low, u in zip(levels[-2::-1], self.low[: self.visible], uniform, strict=True):
            bit = u < jax.nn.sigmoid(level[2 * node + 1] - level[2 * node])
            node = 2 * node + bit
            values.append(jnp.where(bit, 1, low))
        return jnp.stack(values, -1).astype(self.bias.dtype)

    def _visible_logits(self) -> Any:
        """-F of every visible state; the first unit is the most significant bit of its number."""
        self._check(self.units, "units")
        return -self.free_energy(self._states(0, self.visible))

    def _states(self, start: int, stop: int) -> Any:
        """Every state of the units from ``start`` to ``stop``, ``states x units``."""
        count = stop - start
        bits = (jnp.arange(2**count)[:, None] >> jnp.arange(count)[::-1]) & 1
        return jnp.where(bits == 1, 1, jnp.array(self.low[start:stop])).astype(self.bias.dtype)

    def _check(self, count: int, what: str) -> None:
        if count > LARGEST:
            raise ValueError(
                f"the machine has {count} {what}; at most {LARGEST} are enumerated. Draw with NumPyroGibbs, or use "
                "dgm.log_partition(dist, method='ais') on the torch distribution"
            )
