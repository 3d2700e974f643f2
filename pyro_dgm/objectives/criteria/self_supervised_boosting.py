"""Training of an energy-based model by telling data from its own samples (section 20.10.4)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...checks import check_choice, check_count
from ...energy import EnergyDistribution
from ...inference.registration import unregistered
from ..objective import Objective, Turn
from ..phases.chains import ChainsPhase
from ..phases.persistent import PCD
from .conditionals import distribution_of
from .games import discriminator_loss

Units = Literal["all", "in turn"]


class SelfSupervisedBoosting(Objective):
    r"""Logistic discrimination of data from samples of the model's own former self (Welling, Zemel and Hinton 2002).

    The model $p_\theta \propto e^{-F_\theta}$ is told from $q$, itself some steps ago, by the log odds
    $G(x) = -F_\theta(x) + F_q(x) - c$, where c learns $\log Z_\theta / Z_q$:

    $-E_p \log \sigma(G(x)) - E_q \log(1 - \sigma(G(x)))$, in nats, as a game's discriminator does (20.81).

    Every $q_{n+1} \propto q_n e^{f}$ with a weak f lowers $\mathrm{KL}(p \| q)$; with the best f of all it is p. With
    ``refresh=1`` the gradient is half of that of maximum likelihood (Goodfellow 2014). With ``units="in turn"`` only one
    hidden unit learns between two copies, and the others are the former model's: the weak learner is a single unit.

    Args:
        phase: draws the former self's samples, ``dgm.PCD`` or ``dgm.CD``; by default ``dgm.PCD()``.
        refresh: the steps after which the former self is copied anew.
        units: ``"all"``, or ``"in turn"`` for models with ``weight`` (``visible x hidden``) and ``hidden_bias``.

    Raises:
        ValueError: another phase, a count below one, unknown units; when a model is attached, one whose call returns no energy
            distribution of one machine, or one without such weights.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> run = dgm.fit(rbm, x, objective=dgm.SelfSupervisedBoosting(), epochs=1, progress=False)
        >>> round(run.history[0]["loss"], 4)  # nothing can be told yet
        1.3863
    """

    needs_whole_rows = "tells whole rows from draws"

    def __init__(self, phase: ChainsPhase | None = None, refresh: int = 1, units: Units = "all") -> None:
        if phase is not None and not isinstance(phase, ChainsPhase):
            raise ValueError(f"phase got {phase!r}; expected dgm.PCD(...) or dgm.CD(...), which draw samples")
        check_choice("units", units, get_args(Units))
        self.phase = PCD() if phase is None else phase
        self.refresh, self.units = check_count("refresh", refresh, what="steps between copies"), units
        self.copies, self.steps = 0, 0

    def options(self) -> dict[str, Any]:
        phase = {"phase": type(self.phase).__name__, **self.phase.options()}
        return {**super().options(), **phase, "refresh": self.refresh, "units": self.units}

    def attach(self, model: Any) -> None:
        dist = distribution_of(model, type(self).__name__)
        if dist.parameter_batch_shape:
            raise ValueError(
                f"SelfSupervisedBoosting got a model of batch shape {tuple(dist.parameter_batch_shape)}; expected one machine"
            )
        if self.units == "in turn" and not _has_units(model):
            raise ValueError(
                f"units='in turn' got {type(model).__name__}; expected a model with weight, visible x hidden, and hidden_bias"
            )
        self.phase.claim(model)
        self._model = model
        self._former = copy.deepcopy(model).requires_grad_(False)
        self.log_ratio = nn.Parameter(dist.parameters()[0].new_zeros(()))

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return [
            *super().parameter_groups(model),
            {"params": [self.log_ratio], "name": "log_ratio", "weight_decay": 0.0},
        ]

    def turns(self, x: Tensor) -> Iterator[Turn]:
        yield Turn(self.loss_name(), lambda: self.loss(x))
        if self.units == "in turn":
            self._put_back()

    def _put_back(self) -> None:
        """Undo what an optimiser's momentum or decay did to parameters whose turn it is not."""
        mine = self._turn()
        with torch.no_grad():
            for (name, p), was in zip(self._model.named_parameters(), self._former.parameters(), strict=True):
                p.copy_(torch.where(mine, p, was) if name in ("weight", "hidden_bias") else was)

    def _turn(self) -> Tensor:
        """Booleans that mark the hidden unit that learns now."""
        bias = self._model.hidden_bias
        return torch.arange(len(bias), device=bias.device) == (self.copies - 1) % len(bias)

    def loss(self, x: Tensor) -> Tensor:
        with unregistered():
            if self.steps % self.refresh == 0:
                self._former.load_state_dict(self._model.state_dict())
                self.copies += 1
                with torch.no_grad():
                    self.log_ratio.zero_()
            self.steps += 1
            former = self._former()
            with torch.no_grad():
                generated = self.phase.negatives("x", former, x)[former.visible]
                rows = torch.cat([x, generated.to(x.dtype)])
                before = former.free_energy(rows)
            log_odds = before - self._present().free_energy(rows) - self.log_ratio
        return discriminator_loss(log_odds[: len(x)], log_odds[len(x) :])

    def _present(self) -> EnergyDistribution:
        """The model's distribution, whose gradient reaches what learns now."""
        if self.units == "all":
            return self._model()
        mine = self._turn().to(self._model.hidden_bias)
        held = {name: p.detach() for name, p in self._model.named_parameters()}
        for name in ("weight", "hidden_bias"):
            p = getattr(self._model, name)
            held[name] = p.detach() + mine * (p - p.detach())
        return functional_call(self._model, held, ())

    def state_dict(self) -> dict[str, Any]:
        return {
            "phase": self.phase.get_extra_state(), "former": self._former.state_dict(), "steps": self.steps,
            "copies": self.copies, "log_ratio": self.log_ratio.detach(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.phase.set_extra_state(state["phase"])
        self._former.load_state_dict(state["former"])
        self.steps, self.copies = state["steps"], state["copies"]
        with torch.no_grad():
            self.log_ratio.copy_(state["log_ratio"])


def _has_units(model: Any) -> bool:
    weight, bias = getattr(model, "weight", None), getattr(model, "hidden_bias", None)
    return (
        isinstance(weight, nn.Parameter)
        and isinstance(bias, nn.Parameter)
        and bias.dim() == 1
        and weight.shape[-1] == len(bias)
    )
