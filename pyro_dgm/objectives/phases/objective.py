"""The objective of models with energy-based sites: their ELBO with a negative phase around the program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor, nn

from ... import processes
from ...checks import check_count
from ...energy import EnergyDistribution
from ...inference.light import LightTrace, NotPlain, rows_are_checked, runs_alone, some_missing
from ...inference.random_state import RandomState
from ...inference.registration import unregistered
from ...inference.sites import FAILURES
from ...native import out_of_autocast
from ..elbo_steps import ElboSteps
from ..objective import Objective, Stateful, described, own_groups, place
from ..sparsity import Sparsity
from .phase import NegativePhase
from .program import negative_phase

SITE = "x"
"""The observed site of a model's program."""

SWEEPS = 10
"""Sweeps of the chains that fill in missing values."""


class NegativePhaseObjective(Objective):
    r"""The ELBO of a model with energy-based sites, with a negative phase around its program.

    Missing values (NaN) of machines are filled in at every visit of a row by draws given the known ones, $x_u \sim p(x_u \mid
    x_k)$. By Fisher's identity $\partial \log p(x_k) = E_{x_u \mid x_k}[\partial \log p(x_k, x_u)]$, so that the gradient is
    that of the known entries' likelihood; the loss has the value of filled rows. The draws come from clamped chains of
    ``missing_sweeps`` sweeps that start at the biases. Where these mix slowly, the filled values depend on the known ones too
    weakly, and couplings come out too weak.

    Args:
        phase: gives the negative samples.
        elbo: the estimator; ``Trace_ELBO`` by default.
        rates: factors of the learning rate in ``fit``, by the names of parameters; 1 for parameters that are not named.
        sparsity: targets for how often hidden units are on.
        missing_sweeps: steps of the chains that fill in missing values, 10 by default: more cost time, fewer leave a bias.

    Raises:
        ValueError: fewer than one sweep; at ``fit``, a rate of a parameter that the model lacks, or targets of a model that is
            no Boltzmann machine.
    """

    def __init__(
        self,
        phase: NegativePhase,
        elbo: ELBO | None = None,
        rates: Mapping[str, float] | None = None,
        sparsity: Sparsity | None = None,
        missing_sweeps: int = SWEEPS,
    ) -> None:
        self.missing_sweeps = check_count(
            "missing_sweeps", missing_sweeps, what="the sweeps that fill in missing values"
        )
        self.phase, self.rates, self.sparsity = phase, dict(rates or {}), sparsity
        self.elbo = Trace_ELBO(max_plate_nesting=1) if elbo is None else elbo

    def options(self) -> dict[str, Any]:
        rates = {"rates": self.rates} if self.rates else {}
        sparsity = {} if self.sparsity is None else self.sparsity.options()
        missing = {} if self.missing_sweeps == SWEEPS else {"missing_sweeps": self.missing_sweeps}
        return {**super().options(), **described(self.elbo), **self.phase.options(), **rates, **sparsity, **missing}

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        groups: dict[float, list[nn.Parameter]] = {}
        if strange := self.rates.keys() - {name for name, _ in model.named_parameters()}:
            raise ValueError(
                f"rates name {sorted(strange)}; the parameters are {', '.join(name for name, _ in model.named_parameters())}"
            )
        for name, parameter in model.named_parameters():
            groups.setdefault(self.rates.get(name, 1.0), []).append(parameter)
        return [{"params": parameters, "rate": rate} for rate, parameters in groups.items()] + own_groups(self.elbo)

    def attach(self, model: Any) -> None:
        if self.sparsity is not None:
            self.sparsity.check(model)
        place(self.elbo, model)
        self._model, self._only_site = model, getattr(model, "only_site", None)
        self._steps = ElboSteps(self.elbo, negative_phase(model.model, self.phase), model.guide, validates=True)

    def loss(self, x: Tensor) -> Tensor:
        with unregistered():
            if some_missing(x):
                x = self._model.filled(x, self.missing_sweeps)
            loss = self._of_only_site(x)
            loss = (self._steps(x) if loss is None else loss) / len(x)
            return loss if self.sparsity is None else loss + self.sparsity.term(self._model, x)

    @out_of_autocast
    def _of_only_site(self, x: Tensor) -> Tensor | None:
        """The loss of programs that are one observed site, without a trace; None where they are not, or where it fails.

        A step of a machine of 784 x 500 spends 0.5 ms less around its products.
        """
        if self._only_site is None or not (self._steps.plain and rows_are_checked() and runs_alone()):
            return None
        before = RandomState()
        with suppress(*FAILURES):
            try:
                with LightTrace(None):  # which refuses sites outside of the rows' plate
                    fn = self._only_site()
            except NotPlain:
                fn = self._only_site = None
            if isinstance(fn, EnergyDistribution) and not fn.batch_shape:  # and not one in a mask
                free_energy, log_z = self.phase.terms(SITE, self.phase.prepare(SITE, fn), x)
                loss = (free_energy + log_z).sum()
                # Of all processes, which would wait for one another if one alone went another way.
                if math.isfinite(processes.mean(loss.detach(), 1).item()):
                    return loss
        before.restore()
        return None

    def ill_with(self, optimiser: str) -> str | None:
        return self.phase.ill_with(optimiser)

    def schedule(self, share: float) -> None:
        self.phase.schedule(share)

    def scheduled(self) -> bool:
        return self.phase.scheduled()

    def state_dict(self) -> dict[str, Any]:
        elbo = {"elbo": self.elbo.state_dict()} if isinstance(self.elbo, Stateful) else {}
        return {**self.phase.get_extra_state(), **elbo}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.elbo, Stateful) and "elbo" in state:
            self.elbo.load_state_dict(state["elbo"])
        of_phase = {name: value for name, value in state.items() if name != "elbo"}
        if of_phase:
            self.phase.set_extra_state(of_phase)
