"""The base of Boltzmann models with real-valued visible units."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energy.mean_field import mean_field
from .boltzmann import BoltzmannModel, visible_given


class RealValuedModel(BoltzmannModel):
    """A two-layer Boltzmann model (``visible``, ``hidden``) of rows of real numbers."""

    def visible_given_means(self, x: Tensor) -> Tensor:
        r"""$\log p(x \mid \bar T)$ with the hidden statistics at their means given x: one figure a row, in nats.

        It says how well a row is reconstructed, and is no likelihood.
        """
        with torch.no_grad():
            machine = self().machine
            return visible_given(machine, x, mean_field(machine, {"visible": x}, 1).statistics)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """Log-density of validation rows given their hidden means, and the gap between the splits' free energies."""
        with torch.no_grad():
            dist = self()
            free = [float(dist.free_energy(rows[:1000]).mean()) for rows in (train, valid)]
        return {
            "valid_reconstruction": float(self.visible_given_means(valid[:1000]).mean()),
            "free_energy_gap": free[1] - free[0],
        }
