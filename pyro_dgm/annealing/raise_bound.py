"""RAISE: a bound on the log-likelihood of the annealing model, for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import processes, progress
from ..checks import check_count, check_rows
from ..energy.boltzmann import BoltzmannDistribution
from ..energy.graph import Block
from ..energy.machine import State
from ..energy.mean_field import mean_field
from ..energy.temperatures import temperatures as ladder
from ..native import out_of_autocast
from .bits import AnnealedBits, loop_pays
from .partition import base_from_rows
from .units import AnnealingPath, reverse_ais
from .weights import log_mean_exp

_ROWS = 10_000
"""The most chains that anneal at once, over all rows."""


@dataclass(frozen=True)
class RaiseBound:
    """The figures of RAISE for some rows, in nats.

    Attributes:
        values: one figure per row, in expectation below the annealing model's log-likelihood.
        stderr: the standard error of every figure, from its chains (infinite with a single chain).
    """

    values: Tensor
    stderr: Tensor


@out_of_autocast
def raise_bound(
    dist: BoltzmannDistribution,
    x: Tensor,
    *,
    chains: int = 10,
    temperatures: int | Sequence[float] | Tensor = 1000,
    base: Tensor | None = None,
) -> RaiseBound:
    r"""A stochastic lower bound on $\log p_{ann}(x)$ (Burda, Grosse and Salakhutdinov 2015), in nats.

    The *annealing model* is the distribution in which annealing from the base to the machine ends after finitely many
    steps. Hidden units are drawn for every row, $h \sim q(h \mid x)$ by mean field (exact if hidden units are independent),
    and annealed back to the base. With the weights $w$ of that run, $E[e^{-E(x,h)} w / (q(h \mid x) Z_{base})] = p_{ann}(x)$
    exactly, so that the log of the mean over chains is below $\log p_{ann}(x)$ in expectation.

    The annealing model tends to the machine as temperatures are added, and is usually worse: figures tend to be too low
    where those of AIS tend to be too high. But it is another model: this is no estimate of log Z, no end of the interval of
    ``log_partition``, and no proven bound on the machine's likelihood.

    Args:
        dist: a Boltzmann distribution without batch shape. Layers that it is ``given`` count as seen together with x: the
            bound is that of $\log p_{ann}(x, h)$, as ``log_prob`` is of $\log p(x, h)$.
        x: rows, ``n x event_shape``.
        chains: annealing runs per row.
        temperatures: as in ``log_partition``.
        base: visible rows whose means the base takes (training data serve well); by default ``x``.

    Raises:
        ValueError: parameters with a batch shape, rows of another shape, no chain, or temperatures that do not increase
            from 0 to 1.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> dgm.raise_bound(rbm(), x, chains=5, temperatures=10).values.shape
        torch.Size([10])
    """
    if dist.parameter_batch_shape:
        raise ValueError(
            f"raise_bound got parameters of batch shape {tuple(dist.parameter_batch_shape)}; expected one machine"
        )
    check_rows(x, dist.event_shape, "raise_bound")
    check_rows(x if base is None else base, dist.event_shape, "base")
    chains = check_count("chains", chains, what="annealing runs per row")
    mine = processes.share(chains, "chains")
    with torch.no_grad(), processes.own_stream():
        betas = ladder(temperatures)
        x = x.to(dist.parameters()[0])
        path = AnnealingPath(dist.machine, base_from_rows(dist, x if base is None else base.to(x)))
        seen = {dist.visible: x} | {n: h.expand(len(x), *dist.shapes[n]) for n, h in dist.known.items()}
        size = max(_ROWS // mine, 1)
        chunks = ({n: rows[start : start + size] for n, rows in seen.items()} for start in range(0, len(x), size))
        weights = [
            log_weights(dist, path, betas, chunk, mine)
            for chunk in progress.steps(chunks, "batches of rows", -(-len(x) // size))
        ]
        return RaiseBound(*log_mean_exp(processes.gather(torch.cat(weights, 1))))


def log_weights(dist: BoltzmannDistribution, path: AnnealingPath, betas: Tensor, seen: State, chains: int) -> Tensor:
    r"""The log of unbiased estimates of $p_{ann}$ of the layers that are seen, ``chains x rows``."""
    state, log_q = _hidden(dist, {n: x.repeat(chains, *(1 for _ in x.shape[1:])) for n, x in seen.items()})
    weights = -dist.machine.energy(state) - log_q - path.log_base()
    if loop_pays(dist, len(weights), len(betas)):
        weights = weights + AnnealedBits(dist, path).reverse(betas, state)
    else:
        weights = weights + reverse_ais(path, betas, state)
    return weights.view(chains, -1)


def _hidden(dist: BoltzmannDistribution, seen: State) -> tuple[State, Tensor]:
    """A joint state whose other layers are drawn from mean field given those that are seen, and their log-density."""
    machine, x = dist.machine, seen[dist.visible]
    state, log_q = dict(seen), x.new_zeros(len(x))
    statistics = machine.statistics(state) | mean_field(machine, state).statistics
    for layer, unit in machine.graph.layers.items():
        if layer in seen:
            continue
        eta = machine.fields(Block(layer), statistics)
        state[layer] = unit.sample(*(e.expand(len(x), *e.shape[-unit.event_dim :]).contiguous() for e in eta))
        dot = sum((e * t).flatten(1).sum(-1) for e, t in zip(eta, unit.T(state[layer]), strict=True))
        log_q = log_q + dot - machine.log_partition(Block(layer), eta)
    return {layer: state[layer] for layer in machine.graph.layers}, log_q
