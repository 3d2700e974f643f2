"""Annealed importance sampling of Boltzmann machines in compiled JAX code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._conversion import to_numpyro
from ._precision import precision_of

if TYPE_CHECKING:
    from ..energy import BoltzmannDistribution, State


BLOCK = 500
"""The most temperatures in one compiled call, after which the log weights are added up in double precision."""

WORK = 1e9
"""The most multiplications of one compiled call, a fraction of a second: Ctrl-C waits for its end."""


def log_weights(
    dist: BoltzmannDistribution,
    base: Mapping[str, tuple[Tensor, ...]],
    betas: Tensor,
    chains: int,
    batch: torch.Size,
    states: State | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The weights of ``pyro_dgm.annealing.units.log_weights``, for a machine without batch shape and in its precision.

    Raises:
        ValueError: units or interactions that the compiled engine does not know, or a batch shape.
        MissingExtra: JAX or NumPyro is not installed.
    """
    with precision_of(dist.parameters()[0].dtype):
        return _log_weights(dist, base, betas, chains, states)


def _log_weights(
    dist: BoltzmannDistribution,
    base: Mapping[str, tuple[Tensor, ...]],
    betas: Tensor,
    chains: int,
    states: State | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    machine = to_numpyro(dist.unconditional())
    import jax
    import jax.numpy as jnp
    import numpy as np

    from . import _annealing_runs as runs

    flat = {name: tuple(jnp.array(b.reshape(-1).cpu().numpy(), float) for b in entry) for name, entry in base.items()}
    like = dist.parameters()[0].detach()
    start_key, key, back_key = jax.random.split(jax.random.PRNGKey(int(torch.randint(2**31, ()))), 3)
    levels = betas.double().cpu().numpy()

    def summed(levels: Any, run: Any, state: Any, key: Any) -> Tensor:
        total = np.zeros(len(next(iter(state.values()))))
        weights = len(total) * sum(parameter.numel() for parameter in dist.parameters())
        block = max(1, min(BLOCK, int(WORK / weights)))
        for start in range(0, len(levels) - 1, block):
            state, key, rise = run(state, key, jnp.array(levels[start : start + block + 1], float))
            total += np.asarray(rise, np.float64)
        return torch.from_numpy(total).to(like)

    fixed = machine.structure, machine.arrays, flat
    log_base = torch.from_numpy(np.array(runs.log_base(*fixed))).to(like)
    start = runs.start(*fixed, start_key, chains)
    forward = summed(levels, partial(runs.forward, *fixed), start, key)
    if states is None:
        return log_base, forward, None
    ends = {name: jnp.array(x.detach().cpu().numpy(), float) for name, x in states.items()}
    return log_base, forward, summed(levels[::-1], partial(runs.reverse, *fixed), ends, back_key)
