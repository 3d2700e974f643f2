"""Gibbs sampling of a Boltzmann machine as a NumPyro kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from ._machine import Machine, State
from ._numpyro_boltzmann import NumPyroBoltzmann
from ._units import KINDS

Clamp = Mapping[str, tuple[Any, Any]] | tuple[Any, Any] | None


class GibbsState(NamedTuple):
    """The state of chains, ``{layer: chains x layer shape}`` (or of one chain), and their random keys."""

    x: Any
    rng_key: Any


class NumPyroGibbs(MCMCKernel):
    r"""Draws the colours of a Boltzmann machine in turn, each from its conditional (20.7-16).

    Batched keys make batched chains, as ``MCMC(..., chain_method="vectorized")`` passes them; all chain methods work.
    ``MCMC.get_samples()`` returns ``{layer: draws x layer shape}``, and ``init_params`` has the same form.

    Args:
        dist: a machine, as ``to_numpyro`` returns it.
        clamp: ``(mask, value)`` over the visible units, or ``{layer: (mask, value)}``, each broadcasting to the layer's
            shape: where the boolean ``mask`` holds, units stay at ``value`` and the chains converge to
            $p(x_a \mid x_b)$.

    Raises:
        ValueError: the clamp has the wrong shape, a mask that is not boolean, or values outside the support.

    Example:
        >>> import jax, pyro_dgm as dgm
        >>> from numpyro.infer import MCMC
        >>> from pyro_dgm.in_jax import NumPyroGibbs, to_numpyro
        >>> kernel = NumPyroGibbs(to_numpyro(dgm.RBM(4, 3)()))
        >>> mcmc = MCMC(
        ...     kernel, num_warmup=1, num_samples=5, num_chains=50, chain_method="vectorized", progress_bar=False
        ... )
        >>> mcmc.run(jax.random.PRNGKey(0))
        >>> {name: x.shape for name, x in mcmc.get_samples(group_by_chain=True).items()}
        {'hidden': (50, 5, 3), 'visible': (50, 5, 4)}
    """

    sample_field = "x"

    def __init__(self, dist: NumPyroBoltzmann, clamp: Clamp = None) -> None:
        self.dist = dist
        by_layer = {dist.structure.visible: clamp} if isinstance(clamp, tuple) else dict(clamp or {})
        self.clamp = {name: self._checked(name, *pair) for name, pair in by_layer.items()}
        self._machine = Machine(dist.structure, dist.arrays, terms=2)

    def _checked(self, name: str, mask: Any, value: Any) -> tuple[Any, Any]:
        names = [layer.name for layer in self.dist.structure.layers]
        if name not in names:
            raise ValueError(f"the clamp names the layer {name!r}; there are {names}")
        layer = self.dist.structure.layer(name)
        mask, value = np.asarray(mask), np.asarray(value)
        if mask.dtype != np.bool_:
            raise ValueError(f"the clamp's mask got dtype {mask.dtype}; expected bool, True where a unit is known")
        try:
            mask, value = np.broadcast_to(mask, layer.shape), np.broadcast_to(value, layer.shape)
        except ValueError:
            raise ValueError(
                f"the clamp got a mask of shape {mask.shape} and a value of shape {value.shape}; expected both to "
                f"broadcast to {layer.shape}, the shape of the layer {name!r}"
            ) from None
        if not KINDS[layer.kind].fits(mask, value).all():
            raise ValueError(f"the clamp holds {name!r} at values outside the support of {layer.kind} units")
        return jnp.asarray(mask), jnp.asarray(value, float)

    def init(
        self,
        rng_key: Any,
        num_warmup: int = 0,
        init_params: State | None = None,
        model_args: tuple[Any, ...] = (),
        model_kwargs: dict[str, Any] | None = None,
    ) -> GibbsState:
        """The state to start from: ``init_params``, or units drawn from the biases alone; clamped units have their values.

        Args:
            rng_key: one key, or ``chains`` of them.
            num_warmup: unused, since there is nothing to adapt.
            init_params: ``{layer: chains x layer shape}``.
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
            x = jax.vmap(lambda key: self._machine.start(key, ()))(pairs[:, 1])
        else:
            x = self._fitting(init_params, () if single else (keys.shape[0],))
            x = {name: value[None] for name, value in x.items()} if single else x
        x |= {name: jnp.where(mask, value, x[name]) for name, (mask, value) in self.clamp.items()}
        return GibbsState({name: value[0] for name, value in x.items()}, keys[0]) if single else GibbsState(x, keys)

    def sample(
        self, state: GibbsState, model_args: tuple[Any, ...] = (), model_kwargs: dict[str, Any] | None = None
    ) -> GibbsState:
        """The state after one sweep over the colours, for one chain or a batch of chains."""
        return self._sweep(state) if is_prng_key(state.rng_key) else jax.vmap(self._sweep)(state)

    def _sweep(self, state: GibbsState) -> GibbsState:
        key, sweep_key = jax.random.split(state.rng_key)
        return GibbsState(self._machine.sweep(state.x, sweep_key, self.clamp), key)

    def _fitting(self, params: State, batch: tuple[int, ...]) -> State:
        """Initial parameters, checked against the shapes of the machine."""
        got = {name: jnp.shape(x) for name, x in params.items()}
        expected = {layer.name: (*batch, *layer.shape) for layer in self.dist.structure.layers}
        if got != expected:
            raise ValueError(f"init_params got the shapes {got}; expected {expected}")
        return {name: self.dist._real(params[name]) for name in expected}
