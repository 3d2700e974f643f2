"""The log-partition function of an energy-based model: exact, or bounded by annealing from below and above."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from .. import processes
from ..checks import check_belongs, check_choice, check_count, check_memory, check_rows
from ..energy.enumeration import batch_shape, drawable, exact_sample, log_sum
from ..energy.figure import LogPartition
from ..energy.machine import Machine, State
from ..energy.mean_field import mean_field
from ..energy.temperatures import temperatures as ladder
from ..mcmc.engines.names import checked_engine, engine_for
from ..native import out_of_autocast
from . import bits, units
from .weights import DEPENDS, bridge, end_by_start, log_mean_exp

if TYPE_CHECKING:
    from ..energy.boltzmann import BoltzmannDistribution


METHODS = ("exact", "ais", "bridge")

ROUNDS = 50
"""Rounds of the mean field from which annealing starts."""


@out_of_autocast
def log_partition(
    dist: BoltzmannDistribution,
    method: str = "exact",
    *,
    chains: int | None = None,
    temperatures: int | Sequence[float] | Tensor | None = None,
    base: Tensor | Literal["mean-field"] | None = None,
    reverse: bool | None = None,
    warmup: int | None = None,
    engine: str | None = None,
) -> LogPartition:
    r"""Log Z of an energy distribution, in nats.

    Args:
        dist: an energy distribution, as ``rbm()`` returns it.
        method: ``"exact"`` sums one colour of units analytically and lists the states of the rest (real-valued units of
            several colours, as in a spike-and-slab machine, are integrated out together for every state of the spikes).
            ``"ais"`` anneals from a product distribution with the visible layer's mean (Neal 2001; Salakhutdinov and Murray
            2008), and back from the model with ``reverse`` (Burda, Grosse and Salakhutdinov 2015). ``"bridge"`` runs both
            and takes the value between them that Bennett's acceptance ratio finds (Bennett 1976; Meng and Wong 1996). Its
            error is the smallest of the three if the reverse chains start at the model's distribution; if they do not, it
            is off, as is the mean of the reverse runs.
        chains: annealing runs in each direction, 100 by default, shared by the processes if there are several.
        temperatures: the number of inverse temperatures from the base to the model, 1000 by default, or an increasing
            sequence of them from 0 to 1.
        base: visible rows, ``n x event_shape``, whose means the base takes (training data serve well) and from which half of
            the reverse run's chains start; the others start at the biases alone, since rows may all be of one mode. If
            the two halves disagree, the upper end is the larger one, and ``method`` says so. Without rows all chains
            start at the biases, and the means come from them; machines with a batch shape anneal from their own biases.
            ``"mean-field"`` is the machine's own mean field, where reverse chains start too: near a law with one mode, as given
            a part of a row, and too narrow a start for one with many.
        reverse: also anneal from the model back to the base; True by default (bridge sampling needs it).
        warmup: Gibbs sweeps before the reverse run starts, 500 by default.
        engine: the engine that anneals: ``"auto"``, the default, is this package's compiled loop for machines of bits in two
            colours, where they are large or the run is long, and torch for all others; ``"torch"``; ``"jax"`` for loops
            compiled by JAX, in the same precision; ``"compiled"`` for the loop where it pays, else JAX.

    Raises:
        ValueError: the method is unknown, its options contradict each other or are another method's, temperatures that do
            not increase from 0 to 1, a base that is empty, of another shape or not finite, or too many states are left for an
            exact sum.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rbm = dgm.RBM(visible=3, hidden=2)
        >>> with torch.no_grad():
        ...     _ = [p.zero_() for p in rbm.parameters()]
        >>> round(float(dgm.log_partition(rbm()).value), 4) == round(5 * 0.693147, 4)
        True
    """
    if method not in METHODS:
        raise ValueError(f"method got {method!r}; expected one of {', '.join(METHODS)}")
    machine = getattr(dist, "machine", None)
    if machine is None:
        raise ValueError(
            f"log_partition got a {type(dist).__name__}, which has a free energy and no graph to anneal on; models of real "
            "rows anneal by HMC: call model.log_partition(rows)"
        )
    check_belongs(
        "method", method, METHODS[1:], chains=chains, temperatures=temperatures, base=base, reverse=reverse, warmup=warmup,
        engine=engine,
    )  # fmt: skip
    if isinstance(base, str):
        check_choice("base", base, ("mean-field",))
    elif base is not None:
        check_rows(base, dist.event_shape, "base")
        base = base.to(dist.parameters()[0])
    if method == "exact":
        with torch.no_grad():
            return LogPartition.exactly(log_sum(machine, {}))
    chains = check_count(
        "chains", 100 if chains is None else chains, 2, why=", without which annealing cannot tell its error"
    )
    check_memory({"chains": chains}, dist.event_shape.numel(), "log_partition")
    reverse = True if reverse is None else reverse
    if method == "bridge" and not reverse:
        raise ValueError("bridge sampling needs both runs; drop reverse=False, or use method='ais'")
    if warmup is not None and not reverse and base is not None:
        raise ValueError(f"warmup got {warmup!r} without a reverse run, and only that one has a warm-up: leave it out")
    betas = ladder(1000 if temperatures is None else temperatures)
    engine = checked_engine(engine or "auto")
    by_loop = _takes_loop(dist, engine, chains, len(betas) * (1 + reverse))
    anneal = bits.log_weights if by_loop else _log_weights(engine_for(dist, engine, chains))
    mine = processes.share(chains, "chains")
    with torch.no_grad(), processes.own_stream():
        batch = batch_shape(machine)
        states, elsewhere = None, None
        naturals = _own_base(dist, base) if isinstance(base, str) or (base is None and batch) else None
        if reverse or (base is None and naturals is None):
            start = machine if naturals is None else Machine(machine.graph, naturals, machine.weights)
            of_data = base if isinstance(base, Tensor) else None
            sweep = bits.sweeper(dist) if by_loop else partial(_sweep, dist.machine)
            states, elsewhere = _model_states(dist, start, of_data, mine, 500 if warmup is None else warmup, sweep)
        if naturals is None:
            rows = base if isinstance(base, Tensor) else processes.gather(states[dist.visible])  # type: ignore[index]
            naturals = base_from_rows(dist, rows)
        log_base, forward, backward = anneal(dist, naturals, betas, mine, batch, states if reverse else None)
        weights = processes.gather(forward)
        mean, stderr = log_mean_exp(weights)
        lower, stderr_lower = log_base + weights.mean(0), weights.std(0) / math.sqrt(chains)
        upper, stderr_upper, depends = torch.full_like(mean, torch.inf), torch.zeros_like(mean), False
        if backward is not None:
            backward = processes.gather(backward)
            elsewhere = None if elsewhere is None else processes.gather(elsewhere)
            end, stderr_upper, depends = end_by_start(-backward, elsewhere)
            upper = log_base + end
            if method == "bridge":
                mean, stderr = bridge(weights, backward)
    names = {"bridge": "bridge sampling", "ais": "AIS and reverse AIS" if reverse else "AIS"}
    name = names[method] + (DEPENDS if depends else "")
    return LogPartition.annealed(log_base + mean, stderr, (lower, stderr_lower), (upper, stderr_upper), name)


def asks_to_anneal(options: Mapping[str, Any]) -> bool:
    """True where options of ``log_partition`` imply annealing: all do except ``base``, the rows that it starts from."""
    return bool(set(options) - {"base"})


def _takes_loop(dist: BoltzmannDistribution, engine: str, chains: int, steps: int) -> bool:
    """Whether the compiled loop over words of bits anneals."""
    against = {"auto": "torch", "compiled": "jax"}.get(engine)
    return against is not None and bits.loop_pays(dist, chains, steps, against)


def _log_weights(engine: str) -> Callable[..., tuple[Tensor, Tensor, Tensor | None]]:
    if engine == "torch":
        return units.log_weights
    from ..in_jax.annealing import log_weights

    return log_weights


def _own_base(dist: BoltzmannDistribution, base: str | None) -> Mapping[str, tuple[Tensor, ...]]:
    """Every machine's own product distribution: its biases, without its couplings, or its mean field."""
    machine = dist.machine
    blocks = [machine.graph.block(layer) for layer in machine.graph.layers]
    if base is None:
        return {block.layer: machine.shaped(block, machine.biases[block.layer]) for block in blocks}
    naturals = mean_field(machine, {}, ROUNDS).naturals
    if coupled := sorted(machine.graph.layers.keys() - naturals.keys()):
        raise ValueError(f"base got {base!r}, but the layers {coupled} are coupled within themselves; leave it out")
    return naturals


def base_from_rows(dist: BoltzmannDistribution, rows: Tensor) -> Mapping[str, tuple[Tensor, ...]]:
    """Natural parameters of the base: those of the visible layer from its mean statistics, featureless ones for the others.

    Real-valued visible units are no narrower than the machine has them without its couplings: from a narrower base the
    weights would have no finite variance.
    """
    machine, layers = dist.machine, dist.machine.graph.layers
    own = {layer: machine.shaped(machine.graph.block(layer), machine.biases[layer]) for layer in layers}
    base = {layer: unit.featureless(*own[layer]) for layer, unit in layers.items()}
    unit = layers[dist.visible]
    base[dist.visible] = unit.no_narrower(unit.natural_from_rows(rows), base[dist.visible])
    return base


def _model_states(
    dist: BoltzmannDistribution,
    start: Machine,
    rows: Tensor | None,
    chains: int,
    warmup: int,
    sweep: Callable[[State, int], State],
) -> tuple[State, Tensor | None]:
    """Exact draws if the machine is small; else the ends of chains.

    Every other chain starts at a row, if there are rows, and the others at the biases of ``start``; booleans tell them apart.
    """
    machine = dist.machine
    batch = batch_shape(machine)
    if drawable(machine):
        return exact_sample(machine, chains), None
    state, elsewhere = start.neutral_state((chains, *batch)), None
    if rows is not None:
        ones = (1 for _ in (*batch, *dist.event_shape))
        elsewhere = torch.arange(chains, device=rows.device) % 2 == 1
        chosen = torch.randint(len(rows), (chains,), device=rows.device)
        first = rows[chosen].view(chains, *(1 for _ in batch), *dist.event_shape)
        state[dist.visible] = torch.where(elsewhere.view(chains, *ones), state[dist.visible], first)
    return sweep(state, warmup), elsewhere


def _sweep(machine: Machine, state: State, sweeps: int) -> State:
    for _ in range(sweeps):
        state = machine.sweep(state)
    return state
