"""Gibbs sampling of a Boltzmann machine as a NumPyro kernel."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from ._numpyro_boltzmann import NumPyroBoltzmann


class GibbsState(NamedTuple):
    """What a chain carries: all units, ``chains x units`` or ``units``, and its random key."""

    x: Any
    rng_key: Any


class NumPyroGibbs(MCMCKernel):
    r"""Draws the colours of a Boltzmann machine in turn, each from its conditional.

    Unit $i$ takes its values $1$ and $l_i$ ($0$ or $-1$) with log-odds $(1 - l_i)(b_i + \sum_j J_{ij} x_j)$. The
    colours come from a greedy colouring of the non-zero entries of $J$, so the units of one colour are independent
    given the others. Batched keys make batched chains, as ``MCMC(..., chain_method="vectorized")`` passes them; all
    chain methods work. ``MCMC.get_samples()`` returns ``{"visible": ..., "hidden": ...}`` (``hidden`` are all other
    layers side by side, and is left out where there are none), and ``init_params`` has the same form. Compile time
    follows the number of colours.

    Args:
        dist: what ``to_numpyro`` returns.
        clamp: ``(mask, value)`` over the visible units, each broadcasting to ``visible``: where the boolean ``mask``
            holds, units stay at ``value`` and the chains converge to $p(x_a \mid x_b)$.

    Attributes:
        colours: the units drawn together, in order, as index arrays; clamped units are left out.

    Raises:
        ValueError: the clamp has the wrong shape, a mask that is not boolean, or values outside the support.

    Example:
        >>> import jax, pyro_dgm as dgm
        >>> from numpyro.infer import MCMC
        >>> from pyro_dgm.compiled import NumPyroGibbs, to_numpyro
        >>> kernel = NumPyroGibbs(to_numpyro(dgm.RBM(4, 3)()))
        >>> mcmc = MCMC(
        ...     kernel, num_warmup=1, num_samples=5, num_chains=50, chain_method="vectorized", progress_bar=False
        ... )
        >>> mcmc.run(jax.random.PRNGKey(0))
        >>> {name: x.shape for name, x in mcmc.get_samples(group_by_chain=True).items()}
        {'hidden': (50, 5, 3), 'visible': (50, 5, 4)}
    """

    sample_field = "x"

    def __init__(self, dist: NumPyroBoltzmann, clamp: tuple[Any, Any] | None = None) -> None:
        self.dist = dist
        self._low = np.array(dist.low)
        self._known, self._value = self._checked(clamp)
        coupling = np.asarray(dist.coupling)
        free = np.setdiff1d(np.arange(dist.units), self._known)
        restricted = (np.intersect1d(colour, free) for colour in greedy_colouring(coupling != 0))
        self.colours = tuple(colour for colour in restricted if colour.size)
        self._sources = tuple(np.flatnonzero(coupling[:, colour].any(1)) for colour in self.colours)
        self._weights = tuple(
            jnp.array(coupling[np.ix_(source, colour)])
            for source, colour in zip(self._sources, self.colours, strict=True)
        )

    def _checked(self, clamp: tuple[Any, Any] | None) -> tuple[NDArray[Any], NDArray[Any]]:
        if clamp is None:
            return np.empty(0, int), np.empty(0)
        n = self.dist.visible
        mask, value = (np.asarray(entry) for entry in clamp)
        if mask.dtype != np.bool_:
            raise ValueError(f"the clamp's mask got dtype {mask.dtype}; expected bool, True where a unit is known")
        try:
            mask, value = np.broadcast_to(mask, n), np.broadcast_to(value, n)
        except ValueError:
            raise ValueError(
                f"the clamp got a mask of shape {mask.shape} and a value of shape {value.shape}; expected both to "
                f"broadcast to ({n},), one entry for each visible unit"
            ) from None
        known = np.flatnonzero(mask)
        low = self._low[0]
        if not np.isin(value[known], [low, 1]).all():
            raise ValueError(f"the clamp got values outside the support; expected {low} or 1 wherever the mask holds")
        return known, value[known]

    def init(
        self,
        rng_key: Any,
        num_warmup: int = 0,
        init_params: dict[str, Any] | None = None,
        model_args: tuple[Any, ...] = (),
        model_kwargs: dict[str, Any] | None = None,
    ) -> GibbsState:
        """The state to start from: ``init_params``, or units drawn from the biases alone; clamped units at their value.

        Args:
            rng_key: one key, or ``chains`` of them.
            num_warmup: unused, there is nothing to adapt.
            init_params: ``{"visible": chains x visible, "hidden": chains x hidden}``.
            model_args: unused.
            model_kwargs: unused.

        Raises:
            ValueError: ``init_params`` does not fit the machine.
        """
        single = is_prng_key(rng_key)
        keys = rng_key[None] if single else rng_key
        if init_params is None:
            pairs = jax.vmap(jax.random.split)(keys)
            keys = pairs[:, 0]
            x = self._values(jax.vmap(self._uniform)(pairs[:, 1]), self._low, self.dist.bias)
        else:
            x = self._joined(init_params, () if single else (keys.shape[0],)).reshape(-1, self.dist.units)
        x = self._clamped(x)
        return GibbsState(x[0], keys[0]) if single else GibbsState(x, keys)

    def sample(
        self, state: GibbsState, model_args: tuple[Any, ...] = (), model_kwargs: dict[str, Any] | None = None
    ) -> GibbsState:
        """One sweep over the colours, for one chain or a batch of chains."""
        return self._sweep(state) if is_prng_key(state.rng_key) else jax.vmap(self._sweep)(state)

    def postprocess_fn(self, model_args: Any, model_kwargs: Any) -> Any:
        """The function that splits all units into ``{"visible": ..., "hidden": ...}``."""
        return self.split

    def split(self, x: Any) -> dict[str, Any]:
        """``{"visible": batch_shape x visible, "hidden": batch_shape x hidden}`` of ``batch_shape x units``."""
        n = self.dist.visible
        visible = {"visible": x[..., :n]}
        return visible if n == self.dist.units else {**visible, "hidden": x[..., n:]}

    def _joined(self, parts: dict[str, Any], batch: tuple[int, ...]) -> Any:
        n = self.dist.visible
        sizes = {"visible": n} if n == self.dist.units else {"visible": n, "hidden": self.dist.units - n}
        got = {name: jnp.shape(x) for name, x in parts.items()}
        expected = {name: (*batch, size) for name, size in sizes.items()}
        if got != expected:
            raise ValueError(f"init_params got the shapes {got}; expected {expected}")
        return jnp.concatenate([jnp.asarray(parts[name], self.dist.bias.dtype) for name in sizes], -1)

    def _sweep(self, state: GibbsState) -> GibbsState:
        key, now = jax.random.split(state.rng_key)
        uniform = self._uniform(now)
        x = self._clamped(state.x)
        for colour, source, weight in zip(self.colours, self._sources, self._weights, strict=True):
            field = self.dist.bias[colour] + x[source] @ weight
            x = x.at[colour].set(self._values(uniform[colour], self._low[colour], field))
        return GibbsState(x, key)

    def _uniform(self, key: Any) -> Any:
        return jax.random.uniform(key, (self.dist.units,), self.dist.bias.dtype)

    def _values(self, uniform: Any, low: NDArray[Any], field: Any) -> Any:
        return jnp.where(uniform < jax.nn.sigmoid((1 - low) * field), 1, low).astype(self.dist.bias.dtype)

    def _clamped(self, x: Any) -> Any:
        return x.at[..., self._known].set(self._value) if self._known.size else x


def greedy_colouring(coupled: NDArray[Any]) -> list[NDArray[Any]]:
    """Classes of mutually uncoupled units: each unit, those with most neighbours first, takes the first that is free.

    Args:
        coupled: ``units x units`` booleans, symmetric.

    Example:
        >>> ring = np.eye(4, k=1, dtype=bool) | np.eye(4, k=3, dtype=bool)
        >>> [colour.tolist() for colour in greedy_colouring(ring | ring.T)]
        [[0, 2], [1, 3]]
    """
    colour = np.full(len(coupled), -1)
    for unit in np.argsort(-coupled.sum(1), kind="stable"):
        taken = set(colour[coupled[unit]])
        colour[unit] = next(c for c in range(len(coupled)) if c not in taken)
    return [np.flatnonzero(colour == c) for c in range(colour.max() + 1)]
