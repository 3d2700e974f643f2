"""What autoregressive models share: exact likelihoods, conditionals for any split of the columns, a start from data."""

from __future__ import annotations

import torch
from torch import Tensor

from ..autoregressive import AutoregressiveDistribution, Completion, Network, Output, complete
from .explicit import ExplicitModel
from .model import BINARISE, check_rows


class AutoregressiveModel(ExplicitModel):
    """A model whose call returns an ``AutoregressiveDistribution`` of rows; with ``context``, one for every context.

    Attributes:
        network: gives the conditionals' numbers; a subclass makes it.
        output: what the numbers mean.
        context: columns of the context; 0 for none.
    """

    network: Network
    output: Output
    visible: int
    context: int

    def forward(self, context: Tensor | None = None) -> AutoregressiveDistribution:
        """The distribution of a row, or ``batch_shape`` of them.

        Args:
            context: ``batch_shape x C``, of a model that was made with ``context=C``.

        Raises:
            ValueError: a context of another width, or one that the model was not made for.
        """
        if context is not None and context.shape[-1:] != (self.context,):
            made = f"{self.context} columns of context" if self.context else "no context"
            raise ValueError(
                f"context got shape {tuple(context.shape)}, but the model was made with {made}; say context= when making it"
            )
        return AutoregressiveDistribution(self.network, self.output, context)

    def complete(self, x: Tensor, known: Tensor, draws: int = 500, method: str | None = None) -> Completion:
        r"""Draws of the unknown columns given the known ones, with weights: exact where the order or a list of values allows.

        Args:
            x: ``rows x D``; what stands in unknown columns does not matter.
            known: booleans, ``D`` or ``rows x D``.
            draws: how many.
            method: ``"order"``, ``"enumeration"`` or ``"importance"``.

        Raises:
            ValueError: as ``pyro_dgm.autoregressive.complete``.
        """
        return complete(self(), x, known, draws, method)

    def conditional_log_prob(
        self, x: Tensor, known: Tensor, draws: int = 500, method: str | None = None
    ) -> tuple[Tensor, Completion]:
        r"""$\log p(x_a \mid x_b) = \log p(x) - \log p(x_b)$ of every row, in nats, and how $p(x_b)$ was found.

        By importance it is an estimate, too large on average since $\log \hat p(x_b)$ is too small; look at the
        completion's ``effective_sample_size``.
        """
        found = self.complete(x, known, draws, method)
        with torch.no_grad():
            return self().log_prob(x) - found.log_known, found

    def impute(self, x: Tensor, known: Tensor, sweeps: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, of so many draws (``complete``)."""
        if sweeps < 2:
            raise ValueError(f"sweeps got {sweeps}; expected at least 2")
        parts = zip(x.split(20), known.expand(x.shape).split(20), strict=True)
        filled = torch.cat([self.complete(rows, mask, sweeps).mean for rows, mask in parts])
        return torch.where(known, x, filled)

    def initialise(self, x: Tensor) -> None:
        """Start at independent columns that fit the data."""
        bias = self.network.output_bias()
        if bias is not None:
            with torch.no_grad():
                bias.copy_(self.output.start(x))

    def check_data(self, x: Tensor) -> None:
        name = type(self).__name__
        check_rows(x, torch.Size([self.visible]), name)
        outside = self.output.outside(x)
        if bool(outside.any()):
            row, column = outside.nonzero()[0].tolist()
            family = self.output.column(column)
            if family.states == 2:
                raise ValueError(f"{name} got the value {float(x[row, column]):g}; expected 0 or 1. {BINARISE}")
            raise ValueError(
                f"{name} got the value {float(x[row, column]):g} in row {row}, column {column}; expected a whole number from "
                f"0 to {(family.states or 1) - 1}. Number the categories from 0, or declare more of them by output="
            )
