"""The Boltzmann machine as a NumPyro distribution over its visible units."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as numpyro_dist
from jax.scipy.special import logsumexp
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.util import validate_sample

from . import _integral
from ._listing import Listing, listing, log_sum, log_sums
from ._machine import Machine, State
from ._structure import Arrays, Structure
from ._units import KINDS


class _Values(constraints.Constraint):
    """The values of whole layers of one kind of unit."""

    def __init__(self, kind: str, event_dim: int, inner: int) -> None:
        self.kind, self.inner = kind, inner
        self._event_dim = event_dim

    @property
    def is_discrete(self) -> bool:
        """Whether the values can be listed."""
        return KINDS[self.kind].states(self.inner) is not None

    @property
    def event_dim(self) -> int:
        """The number of dimensions of a layer."""
        return self._event_dim

    def __call__(self, x: Any) -> Any:
        inside = KINDS[self.kind].supports(jnp.asarray(x))
        return inside.all(tuple(range(-(self._event_dim - (self.inner > 1)), 0)))

    def feasible_like(self, prototype: Any) -> Any:
        return jnp.ones_like(prototype) if self.inner == 1 else jnp.zeros_like(prototype).at[..., 0].set(1)

    def tree_flatten(self) -> Any:
        return (), ((), {"kind": self.kind, "inner": self.inner, "_event_dim": self._event_dim})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Values) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.kind, self.inner, self._event_dim))


@biject_to.register(_Values)
def _no_bijection(constraint: _Values) -> Any:
    raise NotImplementedError(
        f"{constraint.kind} units hold values that no gradient moves. In a model of HMC or NUTS sum such a layer out, or observe "
        "it; NumPyroGibbs draws a machine by itself"
    )


class NumPyroBoltzmann(numpyro_dist.Distribution):
    r"""The visible units of a Boltzmann machine, $p(v) = \sum_h e^{-E(v,h)} / Z$ (20.1-5).

    $-E = \sum_l \langle b_l, T_l\rangle + \sum_i I_i(T; W_i)$ over binary units, spins, one-hot rows, Gaussian units and
    spikes with slabs, under dense, lateral and sparse couplings. One colour of units is summed analytically and the others
    are listed, so sums are exact up to rounding where at most $2^{20}$ states are left. Where real-valued units have several
    colours, as spikes with slabs and visible units have, their joint Gaussian integral is taken for each of at most $2^{12}$
    states of the spikes and the other units; it is NaN for weights without a normaliser. Everything can be jitted and
    differentiated by ``arrays``, with one exception: integrals have no derivative by weights that must be zero for them to be
    Gaussian (those of a square with a slab, for one), and what is returned there means nothing. Energies and log-probabilities
    are in nats.

    Gaussian visible units may be a latent site of HMC and NUTS; where the machine is too large to sum they take any ``log_z``.

    Args:
        structure: the graph, as plain data.
        arrays: its parameters.
        log_z: a value of $\log Z$ for machines that are too large to sum; ``log_prob`` then uses it.
        validate_args: as in every NumPyro distribution.

    See also:
        ``to_numpyro``, which makes it from a torch machine.

    Example:
        >>> import jax, pyro_dgm as dgm
        >>> from pyro_dgm.in_jax import to_numpyro
        >>> dist = to_numpyro(dgm.RBM.example()[0]())
        >>> v = dist.sample(jax.random.PRNGKey(0), (3,))
        >>> dist.log_prob(v).shape
        (3,)
    """

    arg_constraints: dict[str, Any] = {}
    pytree_data_fields = ("arrays", "log_z")
    pytree_aux_fields = ("structure", "_total", "_hidden")

    def __init__(
        self, structure: Structure, arrays: Arrays, log_z: Any = None, *, validate_args: bool | None = None
    ) -> None:
        self._total: Listing | str = listing(structure, arrays, ())
        self._hidden: Listing | str = listing(structure, arrays, (structure.visible,))
        self.structure = structure
        self.arrays = arrays._replace(
            biases={name: tuple(jnp.array(b, float) for b in entry) for name, entry in arrays.biases.items()},
            weights=tuple(jnp.array(weight, float) for weight in arrays.weights),
            origins={name: jnp.array(origin, float) for name, origin in arrays.origins.items()},
        )
        self.log_z = None if log_z is None else jnp.asarray(log_z, float)
        super().__init__((), structure.layer(structure.visible).shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The constraint that values satisfy."""
        layer = self.structure.layer(self.structure.visible)
        if layer.kind == "gaussian":
            return constraints.independent(constraints.real, len(layer.shape))
        return _Values(layer.kind, len(layer.shape), layer.inner)

    @property
    def machine(self) -> Machine:
        """Energies and conditionals; make it once, outside of loops."""
        return Machine(self.structure, self.arrays)

    @jax.jit
    def energy(self, state: Mapping[str, Any]) -> Any:
        r"""$E$ of a state of all layers, in nats.

        Args:
            state: ``{layer: batch_shape x layer shape}``.

        Returns:
            ``batch_shape``.
        """
        machine = self.machine
        return -machine.value(machine.statistics({name: self._real(x) for name, x in state.items()}))

    @jax.jit
    def free_energy(self, v: Any) -> Any:
        r"""$F(v) = -\log \sum_h e^{-E(v,h)}$, in nats; an integral where hidden units are real.

        Args:
            v: ``batch_shape x event_shape``.

        Returns:
            ``batch_shape``.

        Raises:
            ValueError: there are too many hidden states to list, or no known integral.
        """
        plan, v = _possible(self._hidden), self._real(v)
        rows = v.reshape(-1, *self.event_shape)
        sums = log_sum(plan, self.machine, {self.structure.visible: rows})
        return -sums.reshape(v.shape[: v.ndim - self.event_dim])

    @jax.jit
    def log_partition(self) -> Any:
        r"""$\log Z$ by summing all states, in nats.

        Raises:
            ValueError: there are too many states to list, or no known integral.
        """
        return logsumexp(log_sums(_possible(self._total), self.machine, {}))

    @validate_sample
    def log_prob(self, value: Any) -> Any:
        r"""$-F(v) - \log Z$, in nats, with the given $\log Z$, or else the exact one.

        Args:
            value: ``batch_shape x event_shape``.

        Returns:
            ``batch_shape``.

        Raises:
            ValueError: there are too many states to list, or no known integral.
        """
        return -self.free_energy(value) - (self.log_partition() if self.log_z is None else self.log_z)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        r"""Independent exact draws of the visible units.

        Listed units are drawn one after the other from $p(x_i \mid x_{<i})$, whose terms are sums over the list; no
        cumulative sum over that list loses small probabilities. Given them the summed colour is drawn, or all real-valued units
        from their joint Gaussian.

        Args:
            key: a JAX random key.
            sample_shape: the shape of the draws.

        Returns:
            ``sample_shape x event_shape``.

        Raises:
            ValueError: there are too many states to list.
        """
        return self.sample_state(key, tuple(sample_shape))[self.structure.visible]

    @partial(jax.jit, static_argnums=2)
    def sample_state(self, key: Any, sample_shape: tuple[int, ...] = ()) -> State:
        """Independent exact draws of all layers, ``{layer: sample_shape x layer shape}``; see ``sample``."""
        plan, machine = _possible(self._total), self.machine
        levels = [log_sums(plan, machine, {})]
        for radix in plan.radices[::-1]:
            levels.append(logsumexp(levels[-1].reshape(-1, radix), -1))
        node = jnp.zeros(sample_shape, int)
        listing_key, colour_key = jax.random.split(key)
        keys = jax.random.split(listing_key, max(len(plan.radices), 1))
        for level, radix, level_key in zip(levels[-2::-1], plan.radices, keys, strict=False):
            node = radix * node + jax.random.categorical(level_key, level.reshape(-1, radix)[node])
        state = {name: x[node] for name, x in plan.states(self.structure, self._dtype).items()}
        if plan.colour is None:
            rows = {name: x.reshape(-1, *self.structure.layer(name).shape) for name, x in state.items()}
            drawn = _integral.draw(machine, rows, colour_key)
            return {name: x.reshape(state[name].shape) for name, x in drawn.items()}
        statistics = machine.statistics(state)
        for number, block in enumerate(machine.colours[plan.colour]):
            block_key = jax.random.fold_in(colour_key, number)
            machine.draw(block, machine.fields(block, statistics), state, statistics, block_key, {})
        return state

    @property
    def _dtype(self) -> Any:
        return self.arrays.biases[self.structure.visible][0].dtype

    def _real(self, x: Any) -> Any:
        return jnp.asarray(x, self._dtype)


def _possible(plan: Listing | str) -> Listing:
    """A plan, unless it is the reason why there is none."""
    if isinstance(plan, str):
        raise ValueError(plan)
    return plan
