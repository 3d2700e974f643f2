"""The error of a linear classifier on a model's features, by the number of labels that it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .classification import error_figure
from .trained import Outcome, Trained

ROWS_AT_ONCE = 1000
"""Rows whose features are inferred at a time, which bounds the memory that they take on the way."""

FAST_STEPS = 20
"""Steps of the classifier in a fast run."""


def measure(
    trained: Trained,
    labels: Sequence[int] = (1000, 60000),
    decays: Sequence[float] = (0.01, 0.1, 1.0),
    steps: int = 4000,
    features: str = "hidden_features",
) -> Outcome:
    """The share of test rows that softmax regression on features classifies wrongly, with so many labels.

    Every number n takes the labels of the first n training rows. The weight decay is the one of the smallest error on
    validation rows, of classifiers of the first n training rows without those for validation; then one is trained on all n.
    The figure is that of the largest number, and the others are details.

    Args:
        trained: a model, and its data with labels.
        labels: the numbers of labels.
        decays: the weight decays that are tried.
        steps: steps of a classifier, by batches of 100 rows; their size falls linearly to zero.
        features: the model's method from rows to features.
    """
    import torch

    from ...train.classify import error_rate

    data, make = trained.data, getattr(trained.model, features)

    def inferred(split: Any) -> Any:
        with torch.no_grad():
            return torch.cat([make(rows).flatten(1) for rows in split.x.split(ROWS_AT_ONCE)])

    train, valid, test = (inferred(split) for split in (data.train, data.valid, data.test))
    scale = train.std(0).mean()  # one for all features: rare ones stay small
    fit = _Regression(train.mean(0), scale, FAST_STEPS if trained.fast else steps)
    held_out = len(valid) if len(train) > len(valid) and torch.equal(data.train.x[-len(valid) :], data.valid.x) else 0
    found = {}
    for n in sorted({min(n, len(train)) for n in labels}):
        rows = min(n, len(train) - held_out)
        tried = [fit(train[:rows], data.train.labels[:rows], decay)(valid) for decay in decays]
        errors = [error_rate(scores, data.valid.labels) for scores in tried]
        decay = decays[errors.index(min(errors))]
        classify = fit(train[:n], data.train.labels[:n], decay)
        found[n] = error_rate(classify(test), data.test.labels)
    largest = max(found)
    figure, text, _ = error_figure(found[largest], f"softmax regression on features, {largest} labels", data.test)
    return figure, text, {f"percent_wrong_with_{n}_labels": 100 * error for n, error in found.items()}


class _Regression:
    """Softmax regression on features less a mean, divided by a scale."""

    def __init__(self, mean: Any, scale: Any, steps: int) -> None:
        self.mean, self.scale, self.steps = mean, scale, steps

    def __call__(self, x: Any, labels: Any, decay: float) -> Callable[[Any], Any]:
        """A trained classifier, from features to scores."""
        import torch

        from ...train.classify import fit_classifier

        network = torch.nn.Linear(x.shape[1], int(labels.max()) + 1).to(x)
        for parameter in network.parameters():
            torch.nn.init.zeros_(parameter)
        epochs = -(-self.steps * 100 // len(x))
        fit_classifier(network, (x - self.mean) / self.scale, labels, epochs=epochs, weight_decay=decay)

        @torch.no_grad()
        def classify(features: Any) -> Any:
            return network((features - self.mean) / self.scale)

        return classify
