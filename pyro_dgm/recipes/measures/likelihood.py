"""The log-likelihood of test rows, or its bound or estimate."""

from __future__ import annotations

from typing import Any

from .trained import Outcome, Trained


def measure(trained: Trained, base: str | None = None, **options: Any) -> Outcome:
    """The mean log-likelihood of the test rows in nats.

    Args:
        trained: the model and its data.
        base: ``"train"`` lets annealing start from the training rows' marginals.
        **options: of ``dgm.log_likelihood``.
    """
    from ...evaluation.likelihood import with_details

    if base is not None:
        options["base"] = trained.data.train.x if base == "train" else base
    figure, details = with_details(trained.model, trained.data.test, **options)
    return figure.as_dict(), str(figure), details
