"""The base of latent-variable models of rows given their class."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ...checks import check_one_hot
from ...distributions.given_rows import GivenRows
from .latent import LatentVariableModel
from .rows import check_rows, known_alone


class GivenLabels(LatentVariableModel):
    r"""$p(x, z \mid y)$ over rows that hold the visible columns and then a one-hot label, which has no model.

    ``model(x)`` has the latents' sites and ``"x"``, ``rows x (visible + classes)``; without rows also ``"label"``, drawn
    uniformly.

    Attributes:
        visible: the number of columns without the label.
        classes: the number of classes.
    """

    visible: int
    classes: int

    @abstractmethod
    def latents(self) -> Tensor:
        """Draw the latents within the data plate."""

    @abstractmethod
    def observe(self, z: Tensor, label: Tensor) -> Any:
        """$p(x | z, y)$ with one-hot labels: ``batch_shape`` of the codes, ``event_shape`` (visible,)."""

    @abstractmethod
    def check_columns(self, x: Tensor) -> None:
        """Raise ``ValueError`` where visible columns hold values that they cannot take."""

    def generate(self, x: Tensor | None = None, size: int | None = None, labels: Tensor | None = None) -> Tensor:
        like = next(self.parameters())
        with self.data_plate(x, size):
            z = self.latents()
            if x is not None:
                label = x[..., self.visible :]
            elif labels is not None:
                label = torch.eye(self.classes).to(like)[labels]
            else:
                label = pyro.sample("label", dist.OneHotCategorical(logits=like.new_zeros(self.classes)))
            columns, known = known_alone(self.observe(z, label), None if x is None else x[..., : self.visible])
            rows = None if known is None else torch.cat([known, label], -1)
            return pyro.sample("x", GivenRows(columns, label), obs=rows)

    def sample(self, n: int, labels: Tensor | int | None = None) -> Tensor:
        """Rows with their labels: ``n x (visible + classes)``.

        Args:
            n: the number of rows.
            labels: the class of every row, or one class for all, from 0; by default drawn uniformly.

        Raises:
            ValueError: labels of another number or outside the classes.
        """
        if labels is None:
            return super().sample(n)
        try:
            chosen = torch.as_tensor(labels, device=next(self.parameters()).device)
        except (TypeError, ValueError, RuntimeError):
            chosen = torch.zeros(0)
        wrong = chosen.is_floating_point() or chosen.shape not in ((), (n,))
        if wrong or ((chosen < 0) | (chosen >= self.classes)).any():
            raise ValueError(
                f"labels got {labels!r}; expected {n} integers from 0 to {self.classes - 1}, or one of them"
            )
        with torch.no_grad():
            return self.model(None, n, chosen.long().expand(n))

    def counterparts(self, x: Tensor) -> Tensor:
        """As many rows of the data's own labels."""
        return self.model(None, len(x), x[:, self.visible :].argmax(1))

    def labels_allowed(self, x: Tensor, known: Tensor) -> Tensor:
        """Zero for every class that the known label columns of a row allow, minus infinity for others: ``rows x classes``.

        Raises:
            ValueError: known label columns that fit no class.
        """
        choices = torch.eye(self.classes).to(x)
        clash = known[:, None, self.visible :] & (x[:, None, self.visible :] != choices)
        allowed = torch.zeros_like(clash[..., 0], dtype=x.dtype).masked_fill(clash.any(-1), -torch.inf)
        if (allowed == -torch.inf).all(1).any():
            raise ValueError("the known label columns of some row fit no class; expected one-hot labels")
        return allowed

    def label_given(self, z: Tensor, x: Tensor, known: Tensor, allowed: Tensor) -> Tensor:
        r"""Draw labels from $p(y \mid x_b, z)$ under a uniform prior: ``rows x classes``, one-hot."""
        by_class = self.observe(z.unsqueeze(1).expand(-1, self.classes, -1), torch.eye(self.classes).to(x)).base_dist
        columns = slice(None, self.visible)
        seen = known[:, None, columns]
        scores = torch.where(seen, by_class.log_prob(torch.where(seen, x[:, None, columns], 0.0)), 0.0).sum(-1)
        return dist.OneHotCategorical(logits=allowed + scores).sample()

    def evidence_given(self) -> str:
        return "the label"

    def density_columns(self, x: Tensor) -> Tensor:
        """All columns but the labels."""
        return torch.arange(self.visible + self.classes, device=x.device) < self.visible

    def data_shape(self) -> torch.Size:
        return torch.Size([self.visible + self.classes])

    def check_data(self, x: Tensor) -> None:
        kind = type(self).__name__
        name = f"{kind} (visible columns, then one-hot labels: dataset.labelled(classes), or --classes, appends them)"
        check_rows(x, self.data_shape(), name, missing=self.takes_missing)
        self.check_columns(x[:, : self.visible])
        check_one_hot(x[:, self.visible :], kind)
