"""What a negative phase is, and the two that need no chains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...energy import EnergyDistribution, without_gradient


class NegativePhase(nn.Module):
    """Estimates log Z of an energy-based site, in a way that can be trained through."""

    exact = False

    def get_extra_state(self) -> dict[str, Any]:
        return {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        return None

    def prepare(self, site: str, fn: EnergyDistribution) -> EnergyDistribution:
        """The site's distribution as the phase wants it (with centred gradients, say)."""
        return fn

    def sampler(self, site: str, fn: EnergyDistribution) -> Callable[[torch.Size], Tensor] | None:
        """Where a program under this phase draws the site from; None leaves it to the distribution."""
        return None

    def schedule(self, share: float) -> None:
        """Told by ``fit`` at every epoch's start how much of the training is over, from 0 to 1."""

    def claim(self, owner: Any) -> None:
        """Note the model that the phase serves; a phase with chains refuses a second one."""

    def options(self) -> dict[str, Any]:
        """The phase's name and settings."""
        return {"phase": type(self).__name__}

    @abstractmethod
    def terms(self, site: str, fn: EnergyDistribution, value: Tensor) -> tuple[Tensor, Tensor]:
        """F(x), and a tensor whose gradient is (an estimate of) that of log Z: one a parameter batch, or one a row."""


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
    """Log Z as a known number, to score data under a program with an energy-based site; refuses to train.

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
