"""The base of orderless autoregressive models: one network for all orders, trained on random subsets (section 20.10.10)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import progress
from ...autoregressive import AutoregressiveDistribution, Network, OrderEnsemble
from ...autoregressive.conditionals import check_context, check_context_columns, check_known
from ...autoregressive.orderless import Body, OrderOfBody, random_orders
from ...checks import check_columns, check_orders, check_seed
from ...objectives.criteria.order_agnostic import OrderAgnostic, random_subsets, subset_loss
from ...objectives.objective import Objective
from .autoregressive import AutoregressiveModel, column_options
from .evidence import Evidence
from .rows import check_rows, filled_by_others

CHUNK = 500
"""Rows that are scored at once: their units of a layer stay in the processor's cache."""

MASKED_ROWS = 1000
"""Rows whose masks ``progress`` draws at once; another number would draw other masks."""


class OrderlessModel(AutoregressiveModel):
    r"""A model of every column given any set of known ones; an order of the columns makes it a distribution.

    The model is the mixture (20.84) of its first ``orders`` random orders. Nothing makes the conditionals of different orders
    consistent: $p(x_1) p(x_2 \mid x_1)$ and $p(x_2) p(x_1 \mid x_2)$ may differ, and each order is another distribution.

    A subclass makes ``body`` and adds its other arguments to ``options``.

    Args:
        visible: the number of columns, D.
        output: the columns' families.
        orders: the number of random orders that the model averages.
        seed: the seed of the orders.
        context: columns of the context that every conditional also depends on; 0 for none.

    Attributes:
        body: the network that gives every column's numbers for any set of known ones.

    Raises:
        ValueError: no column, no order, or an unknown family.
    """

    body: Body
    takes_missing = True

    def __init__(self, visible: int, output: str | Sequence[str], orders: int, seed: int, context: int) -> None:
        super().__init__()
        self.visible, self.orders, self.context = (
            check_columns(visible),
            check_orders(orders),
            check_context_columns(context),
        )
        self.seed = check_seed(seed)
        self.declare(output, self.visible)

    def options(self) -> dict[str, Any]:
        return {
            "visible": self.visible,
            **column_options(self.output, context=self.context),
            "orders": self.orders,
            "seed": self.seed,
        }

    def networks(self) -> Sequence[Network]:
        return self._networks(self.orders)

    def _networks(self, count: int) -> list[Network]:
        return [OrderOfBody(self.body, order) for order in random_orders(self.visible, count, self.seed)]

    def ensemble(self, orders: int, context: Tensor | None = None) -> OrderEnsemble:
        """The mixture of the first ``orders`` random orders, whatever number the model averages.

        Raises:
            ValueError: no order.
        """
        networks = self._networks(check_orders(orders))
        return OrderEnsemble([AutoregressiveDistribution(network, self.conditionals, context) for network in networks])

    def answering(
        self, known: Tensor, context: Tensor | None = None
    ) -> Sequence[tuple[Tensor, AutoregressiveDistribution | OrderEnsemble]]:
        r"""Assign to every row orders with its known columns first, left to right, then the unknown ones by the model's orders.

        Draws are exact for $\frac1M \sum_m p(x_a \mid x_b, o_m)$, the mixture of the model's conditionals along those orders.
        Other orders may disagree: nothing makes the conditionals of an orderless model consistent.
        """
        patterns, which = known.unique(dim=0, return_inverse=True)
        assigned: list[tuple[Tensor, AutoregressiveDistribution | OrderEnsemble]] = []
        for number, pattern in enumerate(patterns.tolist()):
            rows = (which == number).nonzero().flatten()
            rows_context = None if context is None else context[rows]
            first = [i for i, is_known in enumerate(pattern) if is_known]
            orders = [
                first + [i for i in order if not pattern[i]]
                for order in random_orders(self.visible, self.orders, self.seed)
            ]
            members = [
                AutoregressiveDistribution(OrderOfBody(self.body, order), self.conditionals, rows_context)
                for order in orders
            ]
            dist = members[0] if len(members) == 1 else OrderEnsemble(members)
            assigned.append((rows, dist))
        return assigned

    def column_log_probs(self, x: Tensor, known: Tensor, context: Tensor | None = None) -> Tensor:
        r"""$\log p(x_i \mid x_{\mathrm{known}})$ of every column, in nats, after each round of inference.

        Args:
            x: ``rows x D``; unknown columns are scored, and are not seen otherwise.
            known: booleans, ``rows x D``.
            context: ``rows x C``; None stands for zeros.

        Returns:
            ``rounds x rows x D``.

        Raises:
            ValueError: rows of another width, or none; columns that are NaN or infinite.
        """
        check_rows(x, torch.Size([self.visible]), type(self).__name__)
        if context is not None:
            check_context(context, self.context)
        return self.column_terms(x, check_known(x, known), context)

    def column_terms(self, x: Tensor, known: Tensor, context: Tensor | None = None) -> Tensor:
        """``column_log_probs`` of rows that nobody looks at, for steps of training."""
        numbers = torch.stack(self.body.predictions(self.conditionals.encode(x), known, context))
        return self.conditionals.log_prob(numbers, x)

    def objective(self) -> Objective:
        """Order-agnostic training (``dgm.OrderAgnostic``)."""
        return OrderAgnostic()

    def evidence(
        self, x: Tensor, method: str | None = None, orders: int | Sequence[int] | None = None, **options: Any
    ) -> Evidence:
        r"""The exact log-likelihood of every row under the mixture of ``orders`` orders (20.84).

        Of rows with missing values (NaN) it is that of the known ones along the same orders without the missing columns, by
        one pass through the network per column.

        The cost is linear in the number of orders and in the number of columns.

        Args:
            x: ``rows x D``.
            method: ``"exact"``.
            orders: the number of orders, by default the model's. Of several numbers, as in ``(1, 16, 128)``, the last gives
                the figure, and the means of all are in the details; smaller mixtures have the first orders of the largest.

        Raises:
            ValueError: another method, another option, or no order.
        """
        if method not in (None, "exact") or options:
            raise ValueError(
                f"got method={method!r} and {sorted(options)}; {type(self).__name__} has method='exact' alone, with orders="
            )
        counts = [self.orders] if orders is None else list(orders) if isinstance(orders, Sequence) else [orders]
        counts = [check_orders(count) for count in counts]
        if not counts:
            raise ValueError("orders got no number; expected one, or several of which the last gives the figure")
        dist = self.ensemble(max(counts))
        score = _of_observed if bool(x.isnan().any()) else AutoregressiveDistribution.log_prob
        with torch.no_grad():
            batches = progress.steps(x.split(CHUNK), "batches of rows")
            by_order = torch.cat([torch.stack([score(m, rows) for m in dist.members]) for rows in batches], 1)
        figures = {count: by_order[:count].logsumexp(0) - math.log(count) for count in counts}
        details = {f"orders_{count}": float(values.double().mean()) for count, values in figures.items()}
        last = counts[-1]
        name = "density of one random order" if last == 1 else f"mean of {last} orders' likelihoods"
        return Evidence.exact(figures[last], name, details if len(counts) > 1 else None)

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """Minus the loss on validation rows, in nats per row, with the same random masks every time."""
        generator = torch.Generator(valid.device).manual_seed(0)
        with torch.no_grad():
            bounds = [
                -subset_loss(
                    self, rows, random_subsets(len(rows), self.visible, rows.device, generator, observed=~rows.isnan())
                )
                for rows in valid.split(MASKED_ROWS)
            ]
        return {"valid_bound": float(torch.cat(bounds).mean())}

    def initialise(self, x: Tensor) -> None:
        """Start at independent columns that fit the data."""
        self.conditionals.standardise(x)
        with torch.no_grad():
            self.body.start(self.conditionals.start(filled_by_others(x)))


def _of_observed(dist: AutoregressiveDistribution, x: Tensor) -> Tensor:
    """The log-probability of the values that rows have, along the order without the columns that they miss: ``rows``."""
    network, output = dist.network, dist.output
    if not isinstance(network, OrderOfBody):
        raise TypeError(f"got {type(network).__name__}; expected an order of a body")
    observed = ~x.isnan()
    x = torch.where(observed, x, 0.0)
    features, total = output.encode(x), x.new_zeros(len(x))
    for place, column in enumerate(network.order.tolist()):
        known = observed & (network.rank.to(x.device) < place)
        numbers = network.body(features, known)[:, column]
        total += torch.where(observed[:, column], output.log_prob_column(column, numbers, x[:, column]), 0.0)
    return total
