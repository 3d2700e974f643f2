"""The base of autoregressive models: exact likelihoods, conditionals for any split of the columns, a start from data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...autoregressive import (
    AutoregressiveDistribution,
    Completion,
    Network,
    OrderEnsemble,
    Output,
    check_known,
    complete,
)
from ...autoregressive.conditionals import check_context
from ...autoregressive.outputs.names import advice
from .conditioning import check_condition, check_imputation, check_independent
from .evidence import Evidence
from .explicit import ExplicitModel
from .rows import check_rows


def column_options(
    output: str | Sequence[str], order: list[int] | int | None = None, context: int = 0
) -> dict[str, Any]:
    """Options of a model that say what its columns are, without an order or a context where there is none."""
    return {
        "output": output if isinstance(output, str) else list(output),
        **({} if order is None else {"order": order}),
        **({"context": context} if context else {}),
    }


class AutoregressiveModel(ExplicitModel):
    """A model whose call returns a distribution of rows, column after column; with ``context``, one for every context.

    A subclass makes ``network``. One that averages several orders (20.84) overrides ``networks``, and one whose order may be
    chosen freely also ``answering``.

    Attributes:
        network: gives the conditionals' numbers.
        output: the columns' families, as they were named.
        conditionals: what the numbers mean.
        context: columns of the context; 0 for none.
    """

    network: Network
    output: str | Sequence[str]
    conditionals: Output
    visible: int
    context: int

    def networks(self) -> Sequence[Network]:
        """The networks, one an order, whose likelihoods are averaged; here the one."""
        return (self.network,)

    def answering(
        self, known: Tensor, context: Tensor | None = None
    ) -> Sequence[tuple[Tensor, AutoregressiveDistribution | OrderEnsemble]]:
        """Which rows have their unknown columns filled in by which distribution.

        By default all rows by the model's own. A model of every order gives each pattern of known columns an order that
        begins with them.

        Args:
            known: booleans, ``rows x D``.
            context: ``rows x C``, or None.

        Returns:
            pairs of rows' numbers and a distribution, without a batch shape or with those rows' contexts; every row is in
            one of them.
        """
        return [(torch.arange(len(known), device=known.device), self(context))]

    def forward(self, context: Tensor | None = None) -> AutoregressiveDistribution | OrderEnsemble:
        """The distribution of a row, or ``batch_shape`` of them.

        Args:
            context: ``batch_shape x C``, of a model that was made with ``context=C``; without it zeros, also in what calls the
                model itself (``fit``, ``evidence``, ``sample``, ``impute``).

        Raises:
            ValueError: a context of another width, or one that the model was not made for.
        """
        if context is not None:
            check_context(context, self.context)
            context = context.to(next(self.parameters()).dtype)
        members = [AutoregressiveDistribution(network, self.conditionals, context) for network in self.networks()]
        return members[0] if len(members) == 1 else OrderEnsemble(members)

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """The exact log-likelihood of every row; with several orders that of their mixture.

        Raises:
            ValueError: another method than ``"exact"``, or options.
        """
        found = super().evidence(x, method, **options)
        orders = len(self.networks())
        return found if orders == 1 else dataclasses.replace(found, method=f"mean of {orders} orders' likelihoods")

    def complete(
        self, x: Tensor, known: Tensor, draws: int = 500, method: str | None = None, context: Tensor | None = None
    ) -> Completion:
        r"""Draws of the unknown columns given the known ones, with weights: exact where the order or a list of values allows.

        Args:
            x: ``rows x D``; what stands in unknown columns does not matter.
            known: booleans, ``D`` or ``rows x D``.
            draws: how many.
            method: ``"order"``, ``"enumeration"`` or ``"importance"``.
            context: ``rows x C``, of a model that was made with ``context=C``; without it zeros.

        Raises:
            ValueError: as ``pyro_dgm.autoregressive.complete``; a context that does not fit.
        """
        return Completion.joined([(rows, found) for rows, _, found in self._answers(x, known, draws, method, context)])

    def conditional_log_prob(
        self, x: Tensor, known: Tensor, draws: int = 500, method: str | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, Completion]:
        r"""$\log p(x_a \mid x_b) = \log p(x) - \log p(x_b)$ of every row, in nats, and how $p(x_b)$ was found.

        By importance it is an estimate, too large on average since $\log \hat p(x_b)$ is too small; look at the
        completion's ``effective_sample_size``. In a model of every order both are those of an order that begins with
        the known columns.
        """
        answers = self._answers(x, known, draws, method, context)
        with torch.no_grad():
            log_p = torch.cat([dist.log_prob(x[rows]) - found.log_known for rows, dist, found in answers])
        back = torch.cat([rows for rows, _, _ in answers]).argsort()
        return log_p[back], Completion.joined([(rows, found) for rows, _, found in answers])

    def _answers(
        self, x: Tensor, known: Tensor, draws: int, method: str | None, context: Tensor | None = None
    ) -> list[tuple[Tensor, AutoregressiveDistribution | OrderEnsemble, Completion]]:
        known = check_known(x, known)
        if context is not None and context.shape != (len(x), self.context):
            raise ValueError(
                f"context got shape {tuple(context.shape)}; expected one row of {self.context} columns for each of {len(x)} rows"
            )
        with torch.no_grad():
            return [
                (rows, dist, complete(dist, x[rows], known[rows], draws, method))
                for rows, dist in self.answering(known, context)
            ]

    def condition(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> Tensor:
        """Draws of the unknown entries given the known ones: ``draws x rows x D``.

        Exact and independent where ``complete`` is; else drawn by the weights of fifty times as many, of which
        ``complete`` tells the effective number.
        """
        check_independent(type(self).__name__, warmup=warmup, thinning=thinning)
        check_condition(x, known, draws)
        known = known.expand(x.shape)
        found = []
        for rows, seen in zip(x.split(20), known.split(20), strict=True):
            part = self.complete(rows, seen, draws)
            part = part if part.exact else self.complete(rows, seen, 50 * draws)
            plain = part.method == "order" and len(part.draws) == draws and len(self.networks()) == 1
            found.append(part.draws if plain else part.resampled(draws))
        return torch.cat(found, 1)

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, of so many draws (``complete``)."""
        return self.impute_with_details(x, known, draws)[0]

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The same, with the methods that were used and the smallest effective number of draws of a row."""
        check_imputation(x, known, torch.Size([self.visible]), draws)
        known = known.expand(x.shape)
        found = [self.complete(rows, seen, draws) for rows, seen in zip(x.split(20), known.split(20), strict=True)]
        filled = torch.where(known, x, torch.cat([part.mean for part in found]))
        smallest = min(float(part.effective_sample_size.min()) for part in found)
        return filled, {
            "method": ", ".join(sorted({part.method for part in found})),
            "smallest_effective_sample_size": smallest,
        }

    def initialise(self, x: Tensor) -> None:
        """Start at independent columns that fit the data."""
        bias = self.networks()[0].output_bias()
        if bias is not None:
            with torch.no_grad():
                bias.copy_(self.conditionals.start(x))

    def check_data(self, x: Tensor) -> None:
        name = type(self).__name__
        if isinstance(x, Tensor) and x.dim() == 2 and bool(x.isnan().any()):
            raise ValueError(
                f"{name} got NaN, first in row {int(x.isnan().any(1).nonzero()[0])}; fit it on rows without, then "
                "impute(x, known=~x.isnan()) fills in the others"
            )
        check_rows(x, torch.Size([self.visible]), name)
        if fault := self.conditionals.fault(x):
            raise ValueError(f"{name} got {fault}. {advice(self.conditionals, x)}")
