"""The base of Boltzmann machines whose hidden layers cannot be summed out: their sites, mean field and its bound."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ...annealing.partition import asks_to_anneal
from ...distributions.hidden_sites import HiddenSite, JointDraw
from ...energy import MeanField, log_states
from ...energy.enumeration import LARGEST
from ...energy.mean_field import mean_field
from .abilities import check_options
from .boltzmann import visible_given
from .evidence import Evidence, bounded
from .label_columns import LabelColumns
from .rows import ROWS_AT_ONCE


class VariationalMachine(LabelColumns):
    r"""A Boltzmann machine with a mean-field posterior of its hidden layers (20.29-35).

    ``model(x)`` has a site for every hidden layer, ``"x"`` and, with classes, ``"label"``; their joint log-probability is
    $-E - \log Z$. The guide is the mean-field posterior after ``rounds`` rounds, so that ``Trace_ELBO`` with a negative phase is
    variational maximum likelihood (algorithm 20.1) and the ELBO is (20.35).

    Attributes:
        names: the hidden layers, whose statistics are linear in their states.
        rounds: rounds of mean field in the guide.
    """

    guide_needs_rows = True
    names: tuple[str, ...]
    rounds: int

    def mean_field(self, x: Tensor, rounds: int) -> MeanField:
        """The factorial posterior of the hidden layers given rows, with labels or without."""
        with torch.no_grad():
            return mean_field(self().machine, self.observed(x), rounds)

    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        dist_x = self()
        joint, like = JointDraw(dist_x), dist_x.parameters()[0]
        with self.data_plate(x, size):
            seen = {} if x is None else self.observed(x)
            known = {name: pyro.sample(name, HiddenSite(joint, name, like)) for name in self.names}
            joint.check(self.names)
            if self.classes:
                known["label"] = pyro.sample("label", HiddenSite(joint, "label", like), obs=seen.get("label"))
            return pyro.sample("x", dist_x.given(known), obs=seen.get("visible"))

    def infer(self, x: Tensor, size: int | None = None) -> None:
        posterior = self.mean_field(x, self.rounds)
        share = posterior.entropy / len(self.names)
        with self.data_plate(x, size):
            for name in self.names:
                shape = posterior.machine.graph.layers[name].shape
                mean = posterior.statistics[name][0].unflatten(-1, shape)
                pyro.sample(name, dist.Delta(mean, log_density=-share, event_dim=len(shape)))

    def bound(self, x: Tensor, rounds: int = 50) -> Tensor:
        r"""The variational bound (20.35) up to log Z, $E_q[-E(x, h)] + H(q)$: one figure per row."""
        posterior = self.mean_field(x, rounds)
        machine = posterior.machine
        with torch.no_grad():
            return posterior.entropy + machine.value({**posterior.statistics, **machine.statistics(self.observed(x))})

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        r"""The variational bound (20.35) with log Z by annealing, or exact figures of a small machine.

        Figures are exact by default where the states can be listed and no option asks for annealing.

        Args:
            x: data.
            method: ``"exact"``, or ``"ais"`` with the options of ``dgm.log_partition``.
        """
        if bool(x.isnan().any()):
            return super().evidence(x, method, **options)
        machine = self().machine
        small = max(log_states(machine, {}), log_states(machine, self.observed(x[:1]))) <= LARGEST
        if method == "exact" or (method is None and small and not asks_to_anneal(options)):
            return super().evidence(x, "exact", **(options if method else {}))
        check_options(self, options, self.evidence_arguments(method))
        log_z = self.log_partition(x, method or "ais", **options)
        return bounded(torch.cat([self.bound(rows) for rows in x.split(ROWS_AT_ONCE)]), log_z)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The gap between the splits' variational bounds, and the validation rows' mean-field reconstruction, in nats per row."""
        rows = self.first_rows(train, valid)
        gap = [-self.bound(r, self.rounds).mean() for r in rows]
        with torch.no_grad():
            posterior = self.mean_field(rows[1], self.rounds)
            visible = self.observed(rows[1])["visible"]
            reconstruction = visible_given(posterior.machine, visible, posterior.statistics)
        return {"valid_reconstruction": float(reconstruction.mean()), "free_energy_gap": float(gap[1] - gap[0])}
