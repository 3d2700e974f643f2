"""Kernels of Boltzmann machines run by compiled JAX code."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from pyro.ops.streaming import CountMeanVarianceStats, StatsOfDict, StreamingStats
from torch import Tensor

from ...energy import BoltzmannDistribution, State
from ..gibbs import BlockGibbs
from ..kernel import ChainsKernel, EnergyKernel, steps_at_once
from ..replicas import at_every_temperature
from ..tempering import ParallelTempering
from .engine import Collected, Engine

if TYPE_CHECKING:
    from ...in_jax._listing import Listing
    from ...in_jax._runs import Moments


ROOM = 1 << 24
"""The most numbers that a compiled run keeps before it hands them over."""

MOST_DRAWS = 100
"""The most draws of one compiled run; the progress bar moves between runs."""


def jax_engine(kernel: ChainsKernel) -> Engine:
    """The engine that runs a kernel on JAX.

    Raises:
        ValueError: a kernel, or units or interactions, that it cannot run.
    """
    engines: dict[type, type[JaxEngine]] = {BlockGibbs: JaxGibbs, ParallelTempering: JaxTempering}
    if not isinstance(kernel, EnergyKernel) or type(kernel) not in engines:
        raise ValueError(
            f"engine='jax' got the kernel {type(kernel).__name__}; expected BlockGibbs or ParallelTempering. Others run "
            "with engine='torch'"
        )
    return engines[type(kernel)](kernel)


class JaxEngine(Engine):
    """The base of engines on JAX, which copy the parameters when a run begins and seed their keys from torch's random state.

    A machine in double precision is run in double precision; JAX's own setting is restored afterwards.
    """

    kernel: EnergyKernel

    def __init__(self, kernel: EnergyKernel) -> None:
        super().__init__(kernel)
        if not isinstance(kernel.dist, BoltzmannDistribution):
            raise ValueError(f"engine='jax' got a {type(kernel.dist).__name__}; expected a Boltzmann distribution")
        self.target = kernel.dist
        self.like = kernel.dist.parameters()[0].detach()
        self.begin()

    def begin(self) -> None:
        from ...in_jax import to_numpyro

        with self._precision():
            self.dist = to_numpyro(self.target.unconditional())
        self._key: Any = None

    def _precision(self) -> AbstractContextManager[object]:
        from ...in_jax._precision import precision_of

        return precision_of(self.like.dtype)

    @property
    def block(self) -> int:  # type: ignore[override]
        """The number of draws that fit into ``ROOM`` numbers, from 1 to ``MOST_DRAWS``."""
        numbers = self.kernel.num_chains * sum(shape.numel() for shape in self.kernel.dist.shapes.values())
        return max(1, min(MOST_DRAWS, ROOM // numbers))

    @abstractmethod
    def plan(self, layers: Sequence[str]) -> tuple[Any, tuple[Any, ...]]:
        """The plan that is compiled, and the arrays that it works on."""

    def _hidden(self) -> Listing | str:
        """How the layers that are neither visible nor given are summed out."""
        from ...in_jax._listing import listing

        return listing(self.dist.structure, self.dist.arrays, (self.target.visible, *self.target.known))

    @abstractmethod
    def carry(self, params: State) -> dict[str, Any]:
        """The values that the compiled steps carry along, from the chains' state."""

    @abstractmethod
    def params(self, carry: Mapping[str, Any], steps: int) -> State:
        """The chains' state after some steps; the kernel's tuning is brought up to date."""

    def states(self) -> int:
        """The number of states that a sweep moves."""
        return self.kernel.num_chains

    def advance(self, params: State, sweeps: int) -> State:
        from ...in_jax import _runs

        most = steps_at_once(self.kernel.dist, self.states())
        with self._precision():
            plan, data = self.plan(())
            while sweeps:
                steps = min(sweeps, most)
                carry, self._key = _runs.advance(plan, data, self.carry(params), self._next_key(), steps)
                params, sweeps = self.params(carry, steps), sweeps - steps
        return params

    def collect(
        self, params: State, draws: int, thinning: int, layers: Sequence[str], moments: StreamingStats | None
    ) -> Collected:
        # Of a draw that takes many calls the last one alone keeps it; and no call has more draws than fit into its work.
        most = steps_at_once(self.kernel.dist, self.states())
        alone, at_once = min(thinning, most), max(1, most // thinning)
        parts: list[Collected] = []
        for start in range(0, draws, at_once):
            params = self.advance(params, thinning - alone) if thinning > alone else params
            count = min(at_once, draws - start)
            with self._precision():
                parts.append(self._collect(params, count, alone, layers, moments))
            params, moments = parts[-1].params, parts[-1].moments
        kept = {name: torch.cat([part.kept[name] for part in parts], 1) for name in parts[0].kept}
        return Collected(params, kept, moments)

    def _collect(
        self, params: State, draws: int, thinning: int, layers: Sequence[str], moments: StreamingStats | None
    ) -> Collected:
        from ...in_jax import _runs

        plan, data = self.plan(layers)
        room = min(self.block, 1 << (draws - 1).bit_length())  # few sizes, since each is compiled
        arguments = plan, data, self.carry(params), self._next_key(), draws, thinning, room
        if moments is None:
            carry, self._key, kept = _runs.collect(*arguments)
        else:
            carry, self._key, kept, of_draws = _runs.summarise(*arguments)
            moments = moments.merge(self._statistics(of_draws))
        by_draw = {name: self.to_torch(x[:draws]).transpose(0, 1) for name, x in kept.items()}
        return Collected(self.params(carry, draws * thinning), by_draw, moments)

    def _next_key(self) -> Any:
        import jax

        if self._key is None:
            self._key = jax.random.PRNGKey(int(torch.randint(2**31, ())))
        return self._key

    def _statistics(self, moments: Moments) -> StreamingStats:
        result = StatsOfDict(default=CountMeanVarianceStats)
        for name, mean in moments.mean.items():
            layer = result.stats[name] = CountMeanVarianceStats()
            layer.shape, state = torch.Size(mean.shape), vars(layer.welford)
            state["n_samples"] = int(moments.count)
            state["_mean"] = self.to_torch(mean).double().reshape(-1)
            state["_m2"] = self.to_torch(moments.squares[name]).double().reshape(-1)
        return result

    def clamp(self, clamp: Mapping[str, tuple[Tensor, Tensor]] | None) -> dict[str, tuple[Any, Any]]:
        """A clamp as arrays."""
        return {name: (to_jax(mask), to_jax(value)) for name, (mask, value) in (clamp or {}).items()}

    def to_torch(self, x: Any) -> Tensor:
        """A copy of a JAX array as a tensor like the parameters."""
        import numpy as np

        return torch.from_numpy(np.array(x)).to(self.like)


class JaxGibbs(JaxEngine):
    """The engine of ``BlockGibbs``."""

    kernel: BlockGibbs

    def __init__(self, kernel: BlockGibbs) -> None:
        if kernel.precision != "float32":
            raise ValueError(
                f"engine='jax' got a kernel with precision={kernel.precision!r}; expected 'float32': this "
                "engine uses bfloat16 units by itself where its products lose hardly anything by it"
            )
        super().__init__(kernel)

    def plan(self, layers: Sequence[str]) -> tuple[Any, tuple[Any, ...]]:
        from ...in_jax import _runs, _samplers

        plan = _runs.Plan(_samplers.GibbsSampler, self.dist.structure, tuple(layers), self._hidden())
        return plan, (self.dist.arrays, self.clamp(self.kernel.clamp))

    def carry(self, params: State) -> dict[str, Any]:
        return {"state": {name: to_jax(x) for name, x in params.items()}}

    def params(self, carry: Mapping[str, Any], steps: int) -> State:
        return {name: self.to_torch(x) for name, x in carry["state"].items()}


class JaxTempering(JaxEngine):
    """The engine of ``ParallelTempering``, whose temperatures are adapted by torch, between compiled runs."""

    kernel: ParallelTempering

    def plan(self, layers: Sequence[str]) -> tuple[Any, tuple[Any, ...]]:
        from ...in_jax import _runs, _samplers

        kernel = self.kernel
        plan = _runs.Plan(_samplers.TemperingSampler, self.dist.structure, tuple(layers), self._hidden())
        base = {name: tuple(to_jax(b.reshape(-1)) for b in naturals) for name, naturals in kernel.base.items()}
        return plan, (
            self.dist.arrays,
            self.clamp(at_every_temperature(kernel.clamp)),
            base,
            to_jax(kernel.tuning["betas"]),
        )

    def states(self) -> int:
        return self.kernel.num_chains * len(self.kernel.tuning["betas"])

    def carry(self, params: State) -> dict[str, Any]:
        import jax.numpy as jnp

        self.kernel._check(params)
        from_base, trips = self.kernel.trips(params, (len(next(iter(params.values()))),))
        return {
            "state": {name: to_jax(x) for name, x in params.items()},
            "rate": jnp.zeros(len(self.kernel.tuning["betas"]) - 1),
            "from_base": to_jax(from_base),
            "trips": to_jax(trips),
        }

    def params(self, carry: Mapping[str, Any], steps: int) -> State:
        state = {name: self.to_torch(x) for name, x in carry["state"].items()}
        self.kernel.took(
            state,
            steps,
            self.to_torch(carry["rate"]) / steps,
            self._bits(carry["from_base"]),
            self._bits(carry["trips"]),
        )
        return state

    def advance(self, params: State, sweeps: int) -> State:
        while sweeps:
            count = min(sweeps, self.kernel.until_adaptation())
            params = super().advance(params, count)
            sweeps -= count
        return params

    @staticmethod
    def _bits(x: Any) -> Tensor:
        import numpy as np

        return torch.from_numpy(np.array(x))


def to_jax(x: Tensor) -> Any:
    """A copy of a tensor as a JAX array."""
    import jax.numpy as jnp

    array = x.detach().cpu().numpy()
    return jnp.array(array, float) if x.is_floating_point() else jnp.array(array)
