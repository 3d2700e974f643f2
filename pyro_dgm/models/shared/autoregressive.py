"""The base of autoregressive models: exact likelihoods, conditionals for any split of the columns, a start at the data."""

from __future__ import annotations

import dataclasses
import warnings
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
from ...autoregressive import output as family
from ...autoregressive.conditionals import check_context, draw_given
from ...autoregressive.outputs import in_own_units
from ...autoregressive.outputs.names import advice
from .conditioning import check_condition, check_imputation, check_independent
from .evidence import Evidence
from .explicit import ExplicitModel
from .rows import check_rows

ROWS = 20
"""Rows that are completed at once: a pass takes this many times the draws."""

OVERSAMPLE = 50
"""Weighted draws for every draw that is resampled from them."""


def column_options(
    output: str | Sequence[str], order: list[int] | int | None = None, context: int = 0
) -> dict[str, Any]:
    """A model's options for its columns; order and context only where there are any."""
    return {
        "output": output if isinstance(output, str) else list(output),
        **({} if order is None else {"order": order}),
        **({"context": context} if context else {}),
    }


class AutoregressiveModel(ExplicitModel):
    """A model whose call returns an autoregressive distribution of rows; with ``context``, one for every context.

    A subclass makes ``network``. One that averages several orders (20.84) overrides ``networks``, and one whose order may be
    chosen freely also ``answering``.

    Attributes:
        network: the network that gives the conditionals' numbers.
        output: the names of the columns' families.
        conditionals: the columns' families, which read the numbers.
        context: the number of columns of the context; 0 for none.
    """

    network: Network
    output: str | Sequence[str]
    conditionals: Output
    visible: int
    context: int

    def declare(self, output: str | Sequence[str], columns: int, scaled_gradient: bool = False) -> None:
        """Take the names of the columns' families; real columns get units of their own, which ``initialise`` takes from data.

        Args:
            output: a name, or one per column.
            columns: the number of columns.
            scaled_gradient: as in ``pyro_dgm.autoregressive.output``.

        Raises:
            ValueError: an unknown name, or another number of names than of columns.
        """
        self.output, self.conditionals = output, in_own_units(family(output, columns, scaled_gradient), columns)
        self.scaling = self.conditionals.scaling

    def networks(self) -> Sequence[Network]:
        """The networks, one per order, whose likelihoods are averaged; by default ``network`` alone."""
        return (self.network,)

    def answering(
        self, known: Tensor, context: Tensor | None = None
    ) -> Sequence[tuple[Tensor, AutoregressiveDistribution | OrderEnsemble]]:
        """Assign to rows the distributions that fill in their unknown columns.

        By default that is the model's own distribution for all rows. A model of every order gives each pattern of known
        columns an order that begins with them.

        Args:
            known: booleans, ``rows x D``.
            context: ``rows x C``, or None.

        Returns:
            Pairs of row numbers and a distribution, without a batch shape or with those rows' contexts; every row is in
            one pair.
        """
        return [(torch.arange(len(known), device=known.device), self(context))]

    def forward(self, context: Tensor | None = None) -> AutoregressiveDistribution | OrderEnsemble:
        """The distribution of a row, or ``batch_shape`` of them.

        Args:
            context: ``batch_shape x C``, for a model made with ``context=C``; by default zeros, also in ``fit``, ``evidence``,
                ``sample`` and ``impute``.

        Raises:
            ValueError: a context of another width, or one that the model was not made for.
        """
        if context is not None:
            check_context(context, self.context)
            context = context.to(next(self.parameters()).dtype)
        members = [AutoregressiveDistribution(network, self.conditionals, context) for network in self.networks()]
        return members[0] if len(members) == 1 else OrderEnsemble(members)

    def density_columns(self, x: Tensor) -> Tensor:
        """The columns whose family has no list of values."""
        return torch.tensor(
            [self.conditionals.column(number).states is None for number in range(self.visible)], device=x.device
        )

    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """The exact log-likelihood of every row; with several orders, under their mixture.

        Raises:
            ValueError: another method than ``"exact"``, or options.
        """
        evidence = super().evidence(x, method, **options)
        orders = len(self.networks())
        return (
            evidence if orders == 1 else dataclasses.replace(evidence, method=f"mean of {orders} orders' likelihoods")
        )

    def complete(
        self, x: Tensor, known: Tensor, draws: int = 500, method: str | None = None, context: Tensor | None = None
    ) -> Completion:
        r"""Draw the unknown columns given the known ones, with weights; exact where the order or a list of values allows.

        Args:
            x: ``rows x D``; unknown columns may hold anything.
            known: booleans, ``D`` or ``rows x D``.
            draws: the number of draws.
            method: ``"order"``, ``"enumeration"`` or ``"importance"``.
            context: ``rows x C``, for a model made with ``context=C``; by default zeros.

        Raises:
            ValueError: as ``pyro_dgm.autoregressive.complete``; a context that does not fit.
        """
        answers = self._answers(x, known, draws, method, context)
        return Completion.joined([(rows, completion) for rows, _, completion in answers])

    def conditional_log_prob(
        self, x: Tensor, known: Tensor, draws: int = 500, method: str | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, Completion]:
        r"""$\log p(x_a \mid x_b) = \log p(x) - \log p(x_b)$ of every row, in nats, and the completion behind $p(x_b)$.

        With importance weights it is an estimate, too large on average since $\log \hat p(x_b)$ is too small; look at the
        completion's ``effective_sample_size``. In a model of every order both terms use an order that begins with the
        known columns.
        """
        answers = self._answers(x, known, draws, method, context)
        with torch.no_grad():
            log_p = torch.cat([dist.log_prob(x[rows]) - completion.log_known for rows, dist, completion in answers])
        original_order = torch.cat([rows for rows, _, _ in answers]).argsort()
        return log_p[original_order], Completion.joined([(rows, completion) for rows, _, completion in answers])

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
        """Draw the unknown entries given the known ones: ``draws x rows x D``.

        The draws are exact and independent where those of ``complete`` are; in a mixture of orders each follows an order that
        is chosen anew, by the probability of the known columns. Elsewhere they are resampled from fifty times as many
        weighted draws, and a warning tells where they are worth less than half as many independent ones.
        """
        drawn, details = self.condition_with_details(x, known, draws, warmup, thinning)
        if (worth := details["smallest_effective_sample_size"]) < draws / 2:
            warnings.warn(
                f"the {draws} draws of {type(self).__name__} are resampled from weighted ones, which for some row are worth "
                f"{worth:.3g} independent draws",
                stacklevel=2,
            )
        return drawn

    def condition_with_details(
        self, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``condition``, the methods used and the smallest effective number of draws of a row."""
        check_independent(type(self).__name__, warmup=warmup, thinning=thinning)
        check_condition(x, known, draws)
        known = known.expand(x.shape)
        filled, sizes, methods = [], [], set()
        with torch.no_grad():
            for batch, known_batch in zip(x.split(ROWS), known.split(ROWS), strict=True):
                columns = torch.empty(draws, *batch.shape, dtype=next(self.parameters()).dtype, device=x.device)
                for rows, dist in self.answering(known_batch):
                    given = draw_given(dist, batch[rows], known_batch[rows], draws, OVERSAMPLE)
                    columns[:, rows] = given.draws
                    sizes.append(given.effective_sample_size)
                    methods.update(given.method.split(", "))
                filled.append(columns)
        return torch.cat(filled, 1), {
            "method": ", ".join(sorted(methods)),
            "smallest_effective_sample_size": float(torch.cat(sizes).min()),
        }

    def impute(self, x: Tensor, known: Tensor, draws: int = 500) -> Tensor:
        """Means of the unknown entries given the known ones, over ``draws`` draws of ``complete``."""
        return self.impute_with_details(x, known, draws)[0]

    def impute_with_details(self, x: Tensor, known: Tensor, draws: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """The result of ``impute``, the methods used and the smallest effective number of draws of a row."""
        check_imputation(x, known, torch.Size([self.visible]), draws)
        known = known.expand(x.shape)
        batches = zip(x.split(ROWS), known.split(ROWS), strict=True)
        completions = [self.complete(rows, known_rows, draws) for rows, known_rows in batches]
        filled = torch.where(known, x, torch.cat([completion.mean for completion in completions]))
        smallest = min(float(completion.worth(draws).min()) for completion in completions)
        return filled, {
            "method": ", ".join(sorted({name for completion in completions for name in completion.method.split(", ")})),
            "smallest_effective_sample_size": smallest,
        }

    def initialise(self, x: Tensor) -> None:
        """Start at independent columns that fit the data."""
        self.conditionals.standardise(x)
        bias = self.networks()[0].output_bias()
        if bias is not None:
            with torch.no_grad():
                bias.copy_(self.conditionals.start(x))

    def check_data(self, x: Tensor) -> None:
        name = type(self).__name__
        if not self.takes_missing and isinstance(x, Tensor) and x.dim() == 2 and bool(x.isnan().any()):
            raise ValueError(
                f"{name} got NaN, first in row {int(x.isnan().any(1).nonzero()[0])}; fit it on rows without, then "
                "impute(x, known=~x.isnan()) fills in the others"
            )
        check_rows(x, torch.Size([self.visible]), name, missing=self.takes_missing)
        if fault := self.conditionals.fault(torch.where(x.isnan(), 0.0, x), ~x.isnan()):
            raise ValueError(f"{name} got {fault}. {advice(self.conditionals, x)}")
