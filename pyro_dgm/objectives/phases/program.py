"""The negative phase of energy-based sites, as an effect handler around any Pyro program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.infer.autoguide.initialization import InitMessenger
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

from ...distributions.around import bound_inside
from ...energy import EnergyDistribution, without_gradient
from ...energy.distribution import Terms
from .phase import NegativePhase

_REFUSED = (
    "HMC or NUTS over the parameters of an energy-based site is doubly intractable: every potential needs the value of "
    "log Z, of which this negative phase has only a noisy gradient. Use SVI for the parameters, or "
    "dgm.ExactNegativePhase() where the machine is small"
)


class PhaseMessenger(Messenger):
    r"""Binds a log-partition surrogate to every energy-based site of the program below it.

    The surrogate's value is the phase's estimate of $\log Z$ and its gradient $E_{model}[-\partial F]$ over the phase's
    negative samples (18.7 with 20.5). It is computed when ``log_prob`` is called, once per run of the program.
    """

    def __init__(self, phase: NegativePhase) -> None:
        super().__init__()
        self.phase = phase

    def _pyro_sample(self, msg: Any) -> None:
        site = msg["name"]
        plates = max((-plate.dim for plate in msg["cond_indep_stack"] if plate.vectorized), default=0)
        msg["fn"] = bound_inside(
            msg["fn"],
            lambda fn: self.phase.prepare(site, fn).with_terms(self._terms(site, plates), self.phase.sampler(site, fn)),
        )

    def _terms(self, site: str, plates: int) -> Terms:
        refuse = not self.phase.exact and _inside_hmc()
        enumerated = not self.phase.estimates and any(isinstance(handler, EnumMessenger) for handler in _PYRO_STACK)
        computed: list[Tensor] = []

        def terms(fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
            if enumerated:
                _refuse_enumeration(site, type(self.phase).__name__, fn, value, plates)
            if computed and torch.is_grad_enabled():
                return fn.free_energy(value), computed[0]
            free_energy, log_z = self.phase.terms(site, fn, value)
            log_z = without_gradient(log_z.detach(), fn.parameters(), _REFUSED) if refuse else log_z
            if torch.is_grad_enabled():
                computed.append(log_z)
            return free_energy, log_z

        return terms


def _refuse_enumeration(site: str, phase: str, fn: EnergyDistribution, value: Tensor, plates: int) -> None:
    """Refuse a site that depends on enumerated latents, which stand in the dimensions left of all plates."""
    rows = torch.broadcast_shapes(value.shape[: value.dim() - len(fn.event_shape)], fn.parameter_batch_shape)
    if rows[: len(rows) - plates].numel() > 1:
        raise ValueError(
            f"site {site!r} depends on enumerated latents, which are weighed by its log-probabilities, and {phase} gives those "
            "without log Z. Use dgm.PCD() with follow=True, or dgm.ExactNegativePhase() where the machine is small"
        )


def _inside_hmc() -> bool:
    """Whether a program runs under a potential: conditioned, but neither replayed nor initialised."""
    kinds = [type(handler) for handler in _PYRO_STACK]
    return any(issubclass(k, ConditionMessenger) for k in kinds) and not any(
        issubclass(k, ReplayMessenger | InitMessenger) for k in kinds
    )


class NegativePhaseProgram(nn.Module):
    """A Pyro program with a negative phase around it; owns the program's parameters and the phase's chains."""

    def __init__(self, program: Callable[..., Any], phase: NegativePhase) -> None:
        super().__init__()
        self.program = program
        self.phase = phase

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with PhaseMessenger(self.phase):
            return self.program(*args, **kwargs)


def negative_phase(program: Callable[..., Any], phase: NegativePhase) -> NegativePhaseProgram:
    r"""Make the energy-based sites of a Pyro program trainable.

    The phase turns the ``log_prob`` of every energy-based site into $-F(x) - \widehat{\log Z}$, whose gradient is that of
    the log-likelihood with the model expectation replaced by the phase's negative samples. Any ELBO, optimiser and plate
    works with it; other sites are not changed.

    Args:
        program: a Pyro model: ``rbm.model``, or your own function with ``pyro.sample("x", rbm(), obs=x)`` in it.
        phase: ``dgm.CD``, ``dgm.PCD`` or ``dgm.ExactNegativePhase``.

    Raises:
        ValueError: ``phase`` is no negative phase (a class instead of an instance, say), or serves another model already.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> from pyro.optim import Adam
        >>> rbm, x = dgm.RBM.example()
        >>> svi = SVI(dgm.negative_phase(rbm.model, dgm.PCD(chains=20)), rbm.guide, Adam({"lr": 0.01}), Trace_ELBO())
        >>> bool(svi.step(x) > 0)
        True
    """
    if not isinstance(phase, NegativePhase):
        raise ValueError(f"phase got {phase!r}; expected an instance such as dgm.PCD(k=1, chains=100)")
    if not callable(program):
        raise ValueError(f"program got {type(program).__name__}; expected a Pyro program such as rbm.model")
    phase.claim(getattr(program, "owner", getattr(program, "__self__", program)))
    return NegativePhaseProgram(program, phase)
