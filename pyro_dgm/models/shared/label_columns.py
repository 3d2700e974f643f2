"""The base of Boltzmann models whose rows may end with a one-hot label."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .boltzmann import BoltzmannModel


class LabelColumns(BoltzmannModel):
    """A Boltzmann model with a ``visible`` layer and, with classes, a ``label`` layer of one categorical unit.

    Rows hold the visible columns and then a one-hot label, or the visible columns alone.

    Attributes:
        visible: the number of visible columns, without the label.
        classes: the number of classes, 0 without labels.
    """

    visible: int
    classes: int

    def observed(self, x: Tensor) -> dict[str, Tensor]:
        if not self.classes or x.shape[-1] == self.visible:
            return {"visible": x}
        columns, label = x.split([self.visible, self.classes], -1)
        return {"visible": columns, "label": label.unsqueeze(-2)}

    def has_label(self, x: Tensor) -> Tensor:
        """Whether each row has a label: it has the columns for it, and they are not NaN."""
        if not self.classes or x.shape[-1] == self.visible:
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return ~x[:, self.visible :].isnan().any(1)

    def sample(self, n: int, sweeps: int = 1000) -> Tensor:
        """Draw ``n`` rows, with labels if there are classes: exactly from a small machine, else as the ends of Gibbs chains."""
        return self.joined(self().sample_state((n,), sweeps))

    def joined(self, state: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([state["visible"], state["label"].squeeze(-2)], -1) if "label" in state else state["visible"]

    def row_shape(self, x: Tensor) -> torch.Size:
        alone = isinstance(x, Tensor) and x.shape[1:] == (self.visible,)
        return torch.Size([self.visible if alone else self.visible + self.classes])

    def initialise(self, x: Tensor) -> None:
        super().initialise(self.observed(x)["visible"])
