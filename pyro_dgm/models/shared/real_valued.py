"""The base of Boltzmann models with real-valued visible units."""

from __future__ import annotations

import torch
from torch import Tensor

from ...energy.mean_field import mean_field
from .boltzmann import BoltzmannModel, visible_given


class RealValuedModel(BoltzmannModel):
    """A two-layer Boltzmann model (``visible``, ``hidden``) of rows of real numbers."""

    def visible_given_means(self, x: Tensor) -> Tensor:
        r"""$\log p(x \mid \bar T)$ given the means of the hidden statistics given x: one figure per row, in nats.

        It measures how well a row is reconstructed, and is not a likelihood.
        """
        with torch.no_grad():
            machine = self().machine
            return visible_given(machine, x, mean_field(machine, {"visible": x}, 1).statistics)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """The log-density of validation rows given their hidden means, and the gap between the splits' free energies."""
        rows = self.first_rows(train, valid)
        with torch.no_grad():
            dist = self()
            free_energies = [float(dist.free_energy(part).mean()) for part in rows]
        return {
            "valid_reconstruction": float(self.visible_given_means(rows[1]).mean()),
            "free_energy_gap": free_energies[1] - free_energies[0],
        }
