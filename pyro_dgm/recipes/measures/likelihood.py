"""The log-likelihood of test rows, or its bound or estimate."""

from __future__ import annotations

from typing import Any

from .trained import Outcome, Trained


def measure(trained: Trained, base: str | None = None, rows: int | None = None, **options: Any) -> Outcome:
    """The mean log-likelihood of the test rows in nats.

    Args:
        trained: the model and its data.
        base: ``"train"`` lets annealing start from the training rows' marginals.
        rows: take every n-th test row, so that at most so many are left, where all of them would take hours; the figure's
            error says what that costs.
        **options: of ``dgm.log_likelihood``.
    """
    from ...evaluation.likelihood import with_details

    if base is not None:
        options["base"] = trained.data.train.x if base == "train" else base
    test = trained.data.test
    figure, details = with_details(trained.model, test if rows is None else test[:: -(-len(test) // rows)], **options)
    return figure.as_dict(), str(figure), details
