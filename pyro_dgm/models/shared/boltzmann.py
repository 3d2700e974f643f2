"""The base of all Boltzmann models: samples, evidence, and figures of progress."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ... import advice
from ...annealing import log_partition
from ...annealing.partition import asks_to_anneal
from ...annealing.raise_bound import RaiseBound, raise_bound
from ...checks import check_belongs, check_choice
from ...energy import Block, BoltzmannDistribution, LogPartition, Machine, Unit, summable
from ...energy.enumeration import quickly_summable
from ...energy.mean_field import free_energy_bound, mean_field
from ...mcmc import BlockGibbs
from ...native import check_precision
from ...objectives import CD, PCD, ExactNegativePhase, NegativePhase, NoiseContrastive, PseudoLikelihood, RatioMatching
from ...objectives.criteria.multi_prediction import MultiPrediction
from ...objectives.criteria.pseudolikelihood import pseudo_log_likelihood
from ...objectives.objective import Objective
from ...objectives.phases.coordinates import why_not_centred
from ...objectives.phases.objective import SWEEPS, NegativePhaseObjective
from ...objectives.phases.positive import Positive
from ...objectives.sparsity import Sparsity
from ...signatures import Option
from .abilities import check_options, keywords
from .energy_based import EnergyModel
from .evidence import WIDTH, Evidence, between, bounded
from .known_evidence import known_evidence
from .rows import ROWS_AT_ONCE, check_rows, check_support, filled_by_others

Kind = Literal["pcd", "cd", "exact", "pseudolikelihood", "ratio-matching", "nce", "multi-prediction"]
"""The criteria that machines are trained by."""


class BoltzmannModel(EnergyModel):
    """A model whose call returns a ``BoltzmannDistribution``; a subclass maps its parameters to biases and weights."""

    @abstractmethod
    def forward(self, *context: Any, **shifts: Any) -> BoltzmannDistribution:
        """The distribution over the visible layer, with a batch shape where the context has one."""

    def sample(self, n: int, sweeps: int = 1000) -> Tensor:
        """Draw ``n`` visible states: exactly from a small machine, else as the last states of ``n`` Gibbs chains."""
        return self().sample((n,), sweeps=sweeps)

    def walk(self, n: int) -> Any:
        """Block Gibbs sampling from the middle of every unit's range, a thousand sweeps."""
        machine = self().machine
        return machine.neutral_state((n,)), machine.sweep, 1000

    def objective(
        self,
        kind: Kind = "pcd",
        k: int | tuple[int, int] | None = None,
        chains: int | None = None,
        centred: bool = False,
        precision: Literal["float32", "bfloat16"] = "float32",
        entries: int | None = None,
        ratio: int | None = None,
        rounds: int | None = None,
        known: float | dict[str, float] | None = None,
        weights: dict[str, float] | None = None,
        rates: Sequence[float] | None = None,
        positive: Positive | None = None,
        sparsity: float | dict[str, float] | None = None,
        sparsity_weight: float | None = None,
        missing_sweeps: int | None = None,
        follow: bool | None = None,
    ) -> Objective:
        """The likelihood's gradient with a negative phase, or a criterion that needs no chain.

        Args:
            kind: the negative phase, ``"pcd"``, ``"cd"`` or ``"exact"``; or ``"pseudolikelihood"``, ``"ratio-matching"``,
                ``"nce"`` or ``"multi-prediction"``.
            k: of pcd and cd, sweeps of the chains per gradient step, 1 by default, or a pair (``dgm.CD``).
            chains: of pcd, the number of persistent chains, 100 by default; cd has one per row.
            centred: of pcd and cd, centre the gradient, as in ``dgm.PCD``.
            follow: of pcd, whether the loss follows log Z, as in ``dgm.PCD``: True by default; steps without are shorter.
            precision: of pcd and cd, the precision of the chains' sweeps, as in ``dgm.BlockGibbs``.
            entries: of pseudolikelihood and ratio-matching, units per row that are flipped in a step, all by default.
            ratio: of nce, noise rows per datum, 1 by default.
            rounds: of multi-prediction, rounds of mean field, 10 by default.
            known: of multi-prediction, the mean share of known entries, 0.5 by default, or one per layer.
            weights: of multi-prediction, factors of the losses of single layers.
            rates: of pcd, cd and exact, for deep machines: factors of the learning rates of every hidden layer's biases and of
                the weights below it, from the lowest.
            positive: of pcd and cd, how hidden units are dealt with given the data, ``"exact"``, ``"chains"`` or
                ``"mean-field"``, as in ``dgm.PCD``.
            sparsity: of pcd, cd and exact, the share of rows in which hidden units are to be on (``dgm.Sparsity``), or one per
                layer by name.
            sparsity_weight: its weight, 1 by default.
            missing_sweeps: of pcd, cd and exact, sweeps of the chains that fill in missing values (NaN) at every visit of a
                row, 10 by default (``dgm.NegativePhaseObjective``).

        Raises:
            ValueError: an unknown kind, an option of another kind, or a gradient that cannot be centred.

        A centred gradient is a change of coordinates for plain SGD; optimisers that rescale every coordinate, as Adam
        does, undo it and train badly with it; ``dgm.fit`` warns of them.
        """
        check_choice("kind", kind, get_args(Kind))
        check_belongs("kind", kind, ["pcd", "cd"], k=k, positive=positive)
        check_belongs("kind", kind, ["pcd"], chains=chains, follow=follow)
        check_belongs("kind", kind, ["pcd", "cd"], centred=centred or None)
        check_belongs("kind", kind, ["pcd", "cd"], precision=None if precision == "float32" else precision)
        check_belongs(
            "kind", kind, ["pcd", "cd", "exact"], rates=rates, sparsity=sparsity, missing_sweeps=missing_sweeps
        )
        check_belongs("kind", kind, ["pseudolikelihood", "ratio-matching"], entries=entries)
        check_belongs("kind", kind, ["nce"], ratio=ratio)
        check_belongs("kind", kind, ["multi-prediction"], rounds=rounds, known=known, weights=weights)
        check_precision(precision, next(self.parameters()))
        if centred and (reason := why_not_centred(self().machine)):
            raise ValueError(f"centred got True: {reason}; leave centred out")
        kernel = None if precision == "float32" else functools.partial(BlockGibbs, precision=precision)
        phase: NegativePhase
        if kind == "pcd":
            number = 100 if chains is None else chains
            followed = True if follow is None else follow
            phase = PCD(
                1 if k is None else k, number, centred=centred, kernel=kernel, positive=positive, follow=followed
            )
        elif kind == "cd":
            phase = CD(1 if k is None else k, centred=centred, kernel=kernel, positive=positive)
        elif kind == "exact":
            phase = ExactNegativePhase()
        elif kind == "nce":
            return NoiseContrastive(ratio=1 if ratio is None else ratio)
        elif kind == "multi-prediction":
            return MultiPrediction(10 if rounds is None else rounds, 0.5 if known is None else known, weights)
        else:
            return PseudoLikelihood(entries) if kind == "pseudolikelihood" else RatioMatching(entries)
        factors = None if rates is None else self.rate_factors(rates)
        targets = Sparsity.of(sparsity, sparsity_weight)
        sweeps = SWEEPS if missing_sweeps is None else missing_sweeps
        return NegativePhaseObjective(phase, rates=factors, sparsity=targets, missing_sweeps=sweeps)

    def rate_factors(self, rates: Sequence[float]) -> dict[str, float]:
        """Factors of the learning rates of single parameters, by name, from one per hidden layer.

        Raises:
            ValueError: not one per hidden layer, or a machine whose layers have no rates of their own.
        """
        raise ValueError(
            f"rates got {rates!r}, but {type(self).__name__} has no hidden layers to tell apart; leave it out"
        )

    def initialise(self, x: Tensor) -> None:
        """Set the visible biases so that uncoupled units have the data's means, unless biases were set already."""
        if any(bool(b.detach().any()) for b in self.visible_biases()):
            return
        with torch.no_grad():
            unit, rows = self().machine.graph.layers["visible"], self.observed(x)["visible"]
            for parameter, natural in zip(self.visible_biases(), unit.natural_from_rows(rows), strict=True):
                parameter.copy_(natural)

    @abstractmethod
    def visible_biases(self) -> tuple[Tensor, ...]:
        """The parameters that hold the visible layer's natural parameters."""

    def check_data(self, x: Tensor) -> None:
        dist = self()
        check_rows(x, dist.event_shape, type(self).__name__, missing=self.takes_missing)
        check_states(dist.machine.graph.layers[dist.visible], x, type(self).__name__)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The pseudo log-likelihood on both splits and the gap between their free energies, in nats per row.

        Where the hidden states are too many to be summed, the gap is that between variational bounds of the free energies,
        and $\\sum_i \\log p(x_i \\mid x_{-i}, \\bar h)$ of validation rows stands for their pseudo log-likelihood.
        """
        with torch.no_grad():
            dist = self()
            rows = self.first_rows(train, valid)
            if not quickly_summable(dist.machine, {dist.visible: rows[0][:1]}):
                return self._reconstruction_progress(*rows)
            free_energies = [dist.free_energy(r).mean() for r in rows]
            return {
                "pseudo_log_likelihood": float(pseudo_log_likelihood(dist, rows[0]).mean()),
                "valid_pseudo_log_likelihood": float(pseudo_log_likelihood(dist, rows[1]).mean()),
                "free_energy_gap": float(free_energies[1] - free_energies[0]),
            }

    @torch.no_grad()
    def _reconstruction_progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The gap between the free energies or their variational bounds, and validation rows given the other layers' means."""
        dist = self()
        machine, free = dist.machine, dist.free_energy if dist.restricted else self._bound
        lower, upper = free(train).mean(), free(valid).mean()
        posterior = mean_field(machine, {"visible": valid}, 1 if dist.restricted else 10)
        means = {**machine.statistics({"visible": valid}), **posterior.statistics}
        reconstruction = visible_given(machine, valid, means).mean()
        return {"valid_reconstruction": float(reconstruction), "free_energy_gap": float(upper - lower)}

    def machine_of(self, x: Tensor) -> tuple[Machine, dict[str, Tensor]]:
        """The machine of data rows, and the states of its layers that they observe."""
        return self().machine, self.observed(x)

    @torch.no_grad()
    def hidden_features(self, x: Tensor, rounds: int = 10) -> Tensor:
        """The means of all hidden units given rows, the lowest layer first, by mean field: ``rows x features``.

        They are exact where hidden units are coupled to observed ones alone. Of spike-and-slab units they are the spikes'
        probabilities and then the slabs' means.

        Args:
            x: rows.
            rounds: rounds of mean field.

        Raises:
            ValueError: the machine has no hidden units.
        """
        check_rows(x, x.shape[1:], type(self).__name__)
        machine, layers = self.machine_of(x)
        if layers.keys() == machine.graph.layers.keys():
            return super().hidden_features(x)
        found = mean_field(machine, layers, rounds).statistics
        return torch.cat([found[layer][0] for layer in machine.graph.layers if layer not in layers], -1)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, rounds: int = 10) -> Tensor:
        """The mean of every column given the means of the hidden units (and the columns that it is coupled to itself).

        Args:
            x: rows.
            rounds: rounds of mean field.
        """
        check_rows(x, x.shape[1:], type(self).__name__)
        machine, layers = self.machine_of(x)
        statistics = dict(machine.statistics(layers))
        if layers.keys() != machine.graph.layers.keys():
            statistics |= mean_field(machine, layers, rounds).statistics
        means = {}
        for layer in layers:
            unit, block = machine.graph.layers[layer], Block(layer)
            mean = unit.mean(*machine.fields(block, statistics))[0]
            means[layer] = mean.reshape(*x.shape[:1], *unit.shape)
        return self.joined(means)

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        r"""$-F(x) - \log Z$ for every row, of all layers that it observes; log Z exact, or between annealing both ways.

        Of rows with missing values (NaN) it is that of the known entries, $\log p(x_k)$: exact where the states of the hidden
        units or of the missing entries can be listed, else both the sum over what is missing (a row with ten chains, unless
        ``chains`` says otherwise) and log Z are annealed, which takes long for many rows.

        The interval goes from the mean log weight of forward annealing to that of reverse annealing, widened by 1.96
        standard errors of those means, and always contains the value. Where the hidden states are too many to be summed, the
        figure is the variational bound (20.35) less log Z.

        Args:
            x: data.
            method: ``"exact"``, ``"ais"``, ``"bridge"``, or ``"raise"``: a lower bound on the likelihood of the annealing
                model (``dgm.raise_bound``). By default exact where the states can be listed and no option asks for annealing,
                else ``"ais"``.
            options: those of ``dgm.log_partition`` or ``dgm.raise_bound``.
        """
        check_options(self, options, self.evidence_arguments(method))
        if bool(x.isnan().any()):
            return self._evidence_of_known(x, method, **options)
        if method == "raise":
            if options.get("base") is not None:
                options["base"] = self.observed(options["base"])["visible"]
            return _raised(raise_bound(*self._seen(x), **options))
        log_z = self.log_partition(x, method, **options)
        with torch.no_grad():
            pairs = (self._seen(rows) for rows in x.split(ROWS_AT_ONCE))
            if not summable(self().machine, self.observed(x[:1])):
                return bounded(torch.cat([-self._bound(rows) for rows in x.split(ROWS_AT_ONCE)]), log_z)
            values = torch.cat([-dist.free_energy(visible) for dist, visible in pairs]) - log_z.value
        return between(values, log_z)

    def evidence_arguments(self, method: str | None = None) -> dict[str, Option]:
        return keywords(raise_bound if method == "raise" else log_partition)

    def _evidence_of_known(self, x: Tensor, method: str | None, **options: Any) -> Evidence:
        """The evidence of rows with missing values, $\\log p(x_k)$."""
        if method == "raise":
            raise ValueError("method got 'raise', a bound for complete rows; leave it out, or use 'ais'")
        annealing = {name: value for name, value in options.items() if name != "base"}
        return known_evidence(
            self(),
            x,
            lambda: self.log_partition(x, method, **options),
            method,
            **(annealing if method != "exact" else {}),
        )

    def _bound(self, x: Tensor) -> Tensor:
        """The variational bound of the free energy of rows, in nats: one figure per row."""
        return free_energy_bound(self().machine, self.observed(x), rounds=50)

    def _seen(self, x: Tensor) -> tuple[BoltzmannDistribution, Tensor]:
        """The distribution given the layers that rows observe beside the visible one, and the rows of that one."""
        observed = self.observed(x)
        return self().given({name: state for name, state in observed.items() if name != "visible"}), observed["visible"]

    def log_partition(self, rows: Tensor, method: str | None = None, **options: Any) -> LogPartition:
        """Log Z in nats: exact, or between forward and reverse annealing from the means of ``rows``.

        Args:
            rows: data.
            method: ``"exact"``, ``"ais"`` or ``"bridge"``. By default exact where the states can be listed and no option asks
                for annealing, else ``"ais"``.
            options: those of ``dgm.log_partition``; ``base`` may be other rows to start from than ``rows``.

        Raises:
            ValueError: as ``dgm.log_partition``.
        """
        base = options.get("base", rows)
        if not isinstance(base, str):
            check_rows(base, rows.shape[1:], "base", missing=self.takes_missing)
        with torch.no_grad():
            dist = self()
            if method is None:
                method = "ais" if asks_to_anneal(options) or not summable(dist.machine, {}) else "exact"
                options = {} if method == "exact" else options
            if method != "exact" and not isinstance(base, str):
                options["base"] = filled_by_others(self.observed(base)["visible"])
            return log_partition(dist, method, **options)


def check_states(unit: Unit, x: Tensor, name: str) -> None:
    """Refuse values that a finite unit cannot take, in the name of a model."""
    if unit.states_per_atom is not None:
        states = unit.atom_states(x).unique()
        expected = f"{' or '.join(f'{v:g}' for v in states.tolist())}"
        # Two comparisons take a fifth of the time of ``isin``.
        among = (lambda v: (v == states[0]) | (v == states[1])) if len(states) == 2 else lambda v: torch.isin(v, states)
        check_support(x, among, name, expected, lambda: advice.on_bits(x))


def visible_given(machine: Machine, x: Tensor, hidden: Mapping[str, tuple[Tensor, ...]]) -> Tensor:
    r"""$\log p(x \mid \bar T)$ of visible rows given mean statistics of the other layers: one figure per row, in nats.

    Args:
        machine: the graph with its parameters.
        x: states of the visible layer.
        hidden: flat mean statistics of the layers that it is coupled to.
    """
    block = machine.graph.block("visible")
    eta, statistics = machine.fields(block, hidden), machine.statistics({"visible": x})["visible"]
    return sum((e * t).sum(-1) for e, t in zip(eta, statistics, strict=True)) - machine.log_partition(block, eta)


def _raised(bound: RaiseBound) -> Evidence:
    stderr = float(bound.stderr.square().sum().sqrt() / len(bound.values))
    return Evidence(
        bound.values,
        kind="lower bound",
        method="RAISE (annealing model)",
        stderr=stderr,
        lower=-WIDTH * stderr,
        upper=math.inf,
        details={},
    )
