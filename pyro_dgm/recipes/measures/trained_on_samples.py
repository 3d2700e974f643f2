"""What a classifier learns from generated rows alone."""

from __future__ import annotations

from typing import Any

from .classification import error_figure
from .trained import Outcome, Trained


def measure(trained: Trained, samples: int = 10_000) -> Outcome:
    """The test error of the nearest neighbour among labelled samples (Radford, Metz and Chintala 2016).

    The details have the error of as many training rows: samples that miss a kind of row, or show it under another label, are
    behind them.

    Args:
        trained: a model of rows with their label, and its data.
        samples: the number of labelled samples.
    """
    from ...evaluation.samples.rows import rows_of

    visible, test = trained.model.visible, trained.data.test
    count = min(samples, len(trained.data.train))
    drawn = rows_of(trained.model, "samples", count)
    wrong = _nearest(drawn[:, :visible], drawn[:, visible:].argmax(1), test, visible)
    rows = trained.data.train
    own = _nearest(rows.x[:count, :visible], rows.labels[:count], test, visible)
    figure, text, _ = error_figure(wrong, f"nearest neighbour among {count} samples", test)
    return figure, text, {"training_rows_error": own}


def _nearest(rows: Any, labels: Any, test: Any, visible: int) -> float:
    from sklearn.neighbors import KNeighborsClassifier

    found = KNeighborsClassifier(1).fit(rows.numpy(), labels.numpy()).predict(test.x[:, :visible].numpy())
    return float((found != test.labels.numpy()).mean())
