"""The share of test rows that are classified wrongly."""

from __future__ import annotations

from typing import Any

from .trained import Outcome, Trained

ROWS_AT_ONCE = 2000
"""Test rows that are classified at a time, which bounds the memory that mean field takes."""


def measure(trained: Trained, inference: str = "mean field", **options: Any) -> Outcome:
    """The share of wrong classes with its standard error over rows.

    Args:
        trained: a model with ``predict_proba``, or with a classifier trained on its features.
        inference: how the model finds the class, in words.
        **options: of ``predict_proba``.
    """
    import torch

    from ...train.classify import error_rate

    test = trained.data.test
    classify = trained.classify
    if classify is None:
        classify = trained.model.predict_proba
    else:
        inference = f"network on {inference} features"
    wrong = error_rate(torch.cat([classify(rows, **options) for rows in test.x.split(ROWS_AT_ONCE)]), test.labels)
    method = ", ".join([inference, *(f"{name} {value}" for name, value in options.items())])
    return error_figure(wrong, method, test)


def error_figure(wrong: float, method: str, test: Any) -> Outcome:
    """The figure of a share of rows classified wrongly."""
    figure = {
        "value": wrong, "stderr_data": (wrong * (1 - wrong) / len(test)) ** 0.5, "kind": "test error",
        "method": method, "space": str(test.space), "n": len(test),
    }  # fmt: skip
    error = f"{100 * wrong:.2f} % test error (± {100 * figure['stderr_data']:.2f})"
    return figure, f"{error}, {method}, {figure['space']}", {}
