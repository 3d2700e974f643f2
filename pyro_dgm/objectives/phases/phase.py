"""The base of negative phases, and the two phases without chains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...energy import EnergyDistribution, without_gradient


class NegativePhase(nn.Module):
    """Estimates log Z of an energy-based site, with a gradient to train by."""

    exact = False
    """Whether log Z is exact, value and gradient."""

    estimates = True
    """Whether the surrogate's value is an estimate of log Z, so that values may weigh machines against each other."""

    def get_extra_state(self) -> dict[str, Any]:
        return {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        return None

    def prepare(self, site: str, fn: EnergyDistribution) -> EnergyDistribution:
        """The site's distribution as the phase needs it (with centred gradients, say)."""
        return fn

    def sampler(self, site: str, fn: EnergyDistribution) -> Callable[[torch.Size], Tensor] | None:
        """A function that draws the site in a program under this phase; None leaves draws to the distribution."""
        return None

    def ill_with(self, optimiser: str) -> str | None:
        """The reason why training by an optimiser of ``fit``, named, goes badly; None by default."""
        return None

    def schedule(self, share: float) -> None:
        """Take note, at the start of every epoch of ``fit``, of the share of the training that is over, from 0 to 1."""

    def scheduled(self) -> bool:
        """Whether ``schedule`` changes anything."""
        return type(self).schedule is not NegativePhase.schedule

    def claim(self, owner: Any) -> None:
        """Take note of the model that the phase serves; a phase with chains refuses a second model."""

    def options(self) -> dict[str, Any]:
        """The phase's name and settings."""
        return {"phase": type(self).__name__}

    @abstractmethod
    def terms(self, site: str, fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
        """F(x), and a tensor with (an estimate of) the gradient of log Z: one per row, or per entry of the parameter batch."""


class ExactNegativePhase(NegativePhase):
    r"""$\log Z$ by enumeration, with its exact gradient; for small machines.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> program = dgm.negative_phase(rbm.model, dgm.ExactNegativePhase())
    """

    exact = True

    def terms(self, site: str, fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
        return fn.free_energy(value), fn.exact_log_partition()


class KnownLogPartition(NegativePhase):
    """A known log Z, to score data under a program with an energy-based site; it refuses to train.

    Args:
        value: log Z in nats.
    """

    exact = True

    def __init__(self, value: Tensor | float) -> None:
        super().__init__()
        self.value = torch.as_tensor(value)

    def terms(self, site: str, fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
        log_z = without_gradient(self.value, fn.parameters(), f"log Z of the site {site!r} was given as a number")
        return fn.free_energy(value), log_z
