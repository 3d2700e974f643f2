"""RAISE: a bound on the log-likelihood of the annealing model, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import processes
from ..checks import check_count
from ..energy.distribution import BoltzmannDistribution
from ..energy.graph import Block
from ..energy.machine import State
from ..energy.mean_field import mean_field
from ..energy.temperatures import temperatures as ladder
from .partition import base_from_rows
from .units import AnnealingPath, reverse_ais
from .weights import log_mean_exp

_ROWS = 10_000
"""Chains that anneal at once."""


@dataclass(frozen=True)
class RaiseBound:
    """What RAISE says of some rows, in nats.

    Attributes:
        values: one figure a row: below the annealing model's log-likelihood in expectation.
        stderr: the standard error of each, from its chains (infinite with a single one).
    """

    values: Tensor
    stderr: Tensor


def raise_bound(
    dist: BoltzmannDistribution,
    x: Tensor,
    *,
    chains: int = 10,
    temperatures: int | Sequence[float] | Tensor = 1000,
    base: Tensor | None = None,
) -> RaiseBound:
    r"""A stochastic lower bound on $\log p_{ann}(x)$ (Burda, Grosse and Salakhutdinov 2015), in nats.

    The *annealing model* is what annealing from the base to the machine in finitely many steps ends in. From every row
    hidden units are drawn, $h \sim q(h \mid x)$ by mean field (exact where hidden units are independent), and annealed
    back to the base; with $w$ the weights of that run, $E[e^{-E(x,h)} w / (q(h \mid x) Z_{base})] = p_{ann}(x)$ exactly, so
    that the log of the mean over chains is below $\log p_{ann}(x)$ in expectation.

    The annealing model tends to the machine as temperatures are added, and is usually worse than it: figures come out
    conservative where AIS comes out optimistic. But it is another model: this is no estimate of log Z, no end of the
    interval of ``log_partition``, and no proven bound on the machine's own likelihood.

    Args:
        dist: a Boltzmann distribution without batch shape.
        x: rows, ``n x event_shape``.
        chains: annealing runs a row.
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
    if x.shape[1:] != dist.event_shape or not len(x):
        raise ValueError(f"raise_bound got rows of shape {tuple(x.shape)}; expected rows x {tuple(dist.event_shape)}")
    chains = check_count("chains", chains, what="annealing runs per row")
    mine = processes.share(chains, "chains")
    with torch.no_grad(), processes.own_stream():
        betas = ladder(temperatures)
        x = x.to(dist.parameters()[0])
        path = AnnealingPath(dist.machine, base_from_rows(dist, x if base is None else base))
        parts = [log_weights(dist, path, betas, rows, mine) for rows in x.split(max(_ROWS // mine, 1))]
        return RaiseBound(*log_mean_exp(processes.gather(torch.cat(parts, 1))))


def log_weights(dist: BoltzmannDistribution, path: AnnealingPath, betas: Tensor, x: Tensor, chains: int) -> Tensor:
    r"""The log of unbiased estimates of $p_{ann}(x)$, ``chains x rows``."""
    rows = x.repeat(chains, *(1 for _ in dist.event_shape))
    state, log_q = _hidden(dist, rows)
    weights = -dist.machine.energy(state) - log_q - path.log_base() + reverse_ais(path, betas, state)
    return weights.view(chains, len(x))


def _hidden(dist: BoltzmannDistribution, x: Tensor) -> tuple[State, Tensor]:
    """A joint state with hidden layers from their mean field given the rows, and the log-density of those."""
    machine = dist.machine
    given = {dist.visible: x}
    statistics = machine.statistics(given) | mean_field(machine, given).statistics
    state, log_q = dict(given), x.new_zeros(len(x))
    for layer, unit in machine.graph.layers.items():
        if layer == dist.visible:
            continue
        eta = machine.fields(Block(layer), statistics)
        state[layer] = unit.sample(*(e.expand(len(x), *e.shape[-unit.event_dim :]).contiguous() for e in eta))
        dot = sum((e * t).flatten(1).sum(-1) for e, t in zip(eta, unit.T(state[layer]), strict=True))
        log_q = log_q + dot - machine.log_partition(Block(layer), eta)
    return {layer: state[layer] for layer in machine.graph.layers}, log_q
