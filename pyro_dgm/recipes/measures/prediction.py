"""How well a model of outputs given inputs predicts test rows: their log-likelihood and the squared error of the means."""

from __future__ import annotations

from typing import Any

from . import likelihood
from .trained import Outcome, Trained

ROWS_AT_ONCE = 2000
"""Test rows whose means are taken at a time, which bounds the memory of their chains."""


def measure(trained: Trained, sweeps: int = 200, **options: Any) -> Outcome:
    r"""The log-likelihood of outputs given inputs, and $|y - E[y \mid x]|^2$, both a row; a row may be a frame after others.

    The details have ``squared_error``, summed over the outputs, and ``squared_error_stderr``, over the rows.

    Args:
        trained: a model with ``split`` and ``mean``, and its data.
        sweeps: the length of the chains behind the means, where they are not summed exactly.
        **options: of the measure ``likelihood``.
    """
    import torch

    figure, text, details = likelihood.measure(trained, **options)
    given, outputs = trained.model.split(trained.data.test.x)
    means = torch.cat([trained.model.mean(rows, sweeps) for rows in given.split(ROWS_AT_ONCE)])
    errors = (means - outputs).square().sum(1).double()
    return (
        figure,
        text,
        details
        | {
            "squared_error": float(errors.mean()),
            "squared_error_stderr": float(errors.std() / len(errors) ** 0.5),
        },
    )
