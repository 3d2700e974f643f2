"""The error of a classifier on a model's features, by the number of labels that it is given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .classification import error_figure
from .trained import Outcome, Trained

ROWS_AT_ONCE = 1000
"""Rows whose features are inferred at a time, which bounds the memory that they take on the way."""

FAST_STEPS = 20
"""Steps of the classifier in a fast run."""

WORDS = {"softmax": "softmax regression", "neighbours": "nearest neighbours", "svm": "support vector machine"}
"""The classifiers, in words."""

SOFTMAX: Mapping[str, Sequence[float]] = {"softmax": (0.01, 0.1, 1.0)}
"""Softmax regression with the weight decays that are tried."""

Scores = Callable[[Any], Any]
"""A trained classifier, from features to scores of classes."""

Fit = Callable[[Any, Any, float], Scores]
"""From features, labels and a setting to a trained classifier."""


def measure(
    trained: Trained,
    labels: Sequence[int] = (1000, 60000),
    classifiers: Mapping[str, Sequence[float]] = SOFTMAX,
    steps: int = 4000,
    features: str = "hidden_features",
    chosen_by: int | None = None,
) -> Outcome:
    """The share of test rows that a classifier on features gets wrong, with so many labels.

    Every number n takes the labels of the first n training rows. The setting is the one of the smallest error on
    validation rows, of classifiers of the first n training rows without those for validation; then one is trained on all n.
    The figure is the first classifier's of the largest number of labels, and the others are details.

    Args:
        trained: a model, and its data with labels.
        labels: the numbers of labels.
        classifiers: by name the settings that are tried: weight decays of ``"softmax"`` regression, numbers of nearest
            ``"neighbours"``, or penalties of the margins that an ``"svm"`` with Gaussian kernels misses.
        steps: steps of softmax regression, by batches of 100 rows; their size falls linearly to zero.
        features: the model's method from rows to features.
        chosen_by: the most rows of classifiers that choose the setting; by default all but those for validation.
    """
    import torch

    from ...checks import check_choice
    from ...train.classify import error_rate

    if not labels or not classifiers or not all(classifiers.values()):
        raise ValueError(
            f"labels got {list(labels)} and classifiers {dict(classifiers)}; expected numbers of labels, and settings to try for "
            "every classifier named"
        )
    for name in classifiers:
        check_choice("classifiers", name, WORDS)
    data, make = trained.data, getattr(trained.model, features)

    def inferred(split: Any) -> Any:
        with torch.no_grad():
            return torch.cat([make(rows).flatten(1) for rows in split.x.split(ROWS_AT_ONCE)])

    train, valid, test = (inferred(split) for split in (data.train, data.valid, data.test))
    mean, scale = train.mean(0), train.std(0).mean()  # one scale for all features: rare ones stay small
    scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)  # of features that are the same for all rows
    train, valid, test = ((x - mean) / scale for x in (train, valid, test))
    softmax: Fit = functools.partial(_softmax, steps=FAST_STEPS if trained.fast else steps)
    fits = {"softmax": softmax, "neighbours": _neighbours, "svm": _svm}
    # Their bits may have been drawn anew.
    joined = len(train) > len(valid) and torch.equal(data.train.labels[-len(valid) :], data.valid.labels)
    held_out = len(valid) if joined else 0

    def wrong(fit: Fit, settings: Sequence[float], n: int) -> float:
        rows = min(n, len(train) - held_out, chosen_by or n)
        tried = [fit(train[:rows], data.train.labels[:rows], setting)(valid) for setting in settings]
        errors = [error_rate(scores, data.valid.labels) for scores in tried]
        classify = fit(train[:n], data.train.labels[:n], settings[errors.index(min(errors))])
        return error_rate(classify(test), data.test.labels)

    counts = sorted({min(n, len(train)) for n in labels})
    found = {(name, n): wrong(fits[name], tried, n) for name, tried in classifiers.items() for n in counts}
    first, most = next(iter(classifiers)), counts[-1]
    figure, text, _ = error_figure(found[first, most], f"{WORDS[first]} on features, {most} labels", data.test)
    by = {name: "" if name == first else f"_by_{name}" for name in classifiers}
    return figure, text, {f"percent_wrong{by[name]}_with_{n}_labels": 100 * error for (name, n), error in found.items()}


def _softmax(x: Any, labels: Any, decay: float, steps: int) -> Scores:
    """Softmax regression."""
    import torch

    from ...train.classify import fit_classifier

    network = torch.nn.Linear(x.shape[1], int(labels.max()) + 1).to(x)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    fit_classifier(network, x, labels, epochs=-(-steps * 100 // len(x)), weight_decay=decay)
    return torch.no_grad()(network)


def _neighbours(x: Any, labels: Any, count: float) -> Scores:
    """The classes of so many nearest neighbours; of as many of two classes the first is taken."""
    from sklearn.neighbors import KNeighborsClassifier

    return _of_scikit_learn(KNeighborsClassifier(min(int(count), len(x)), algorithm="brute"), x, labels)


def _svm(x: Any, labels: Any, penalty: float) -> Scores:
    """A support vector machine for every pair of classes, which votes; kernels are as wide as the features' deviation."""
    from sklearn.svm import SVC

    return _of_scikit_learn(SVC(C=penalty, cache_size=2000), x, labels)


def _of_scikit_learn(classifier: Any, x: Any, labels: Any) -> Scores:
    import torch

    classifier.fit(x.numpy(), labels.numpy())
    classes = int(labels.max()) + 1

    def scores(rows: Any) -> Any:
        predicted = torch.from_numpy(classifier.predict(rows.numpy()))
        return torch.nn.functional.one_hot(predicted, classes).to(rows)

    return scores
