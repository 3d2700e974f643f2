"""Training a classifier on a deep machine's features, and its error."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_count, check_positive, check_seed
from ..data import Dataset
from ..data.rows import as_rows, as_split
from ..data.streams import stream
from ..inference.random_state import seeded
from ..models.shared.arguments import rows_for
from ..nets.modes import evaluating
from .optimisers import FUSED_ON

FEATURE_ROWS = 2000
"""Rows whose features are inferred at a time, which bounds the memory that mean field takes."""


def fit_classifier(
    network: nn.Module,
    x: Any,
    labels: Any,
    *,
    epochs: int = 20,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    class_weights: Any = None,
    seed: int = 0,
) -> list[float]:
    """Train a network of class scores by cross-entropy with AdamW; the step size falls linearly to zero.

    Args:
        network: a map from rows to scores, such as ``dbn.to_mlp(classes=10)``; trained in place.
        x: rows.
        labels: one class number per row.
        epochs: passes over the rows.
        batch_size: rows per step.
        learning_rate: the first step size.
        weight_decay: that of AdamW.
        class_weights: one positive number per class, by which the losses of its rows count; or ``"balanced"``, by which all
            classes count alike however many rows they have.
        seed: seed of the batches' order and of dropout; the random state is afterwards as it was before.

    Returns:
        The (weighted) mean loss of every epoch, in nats per row.

    Raises:
        ValueError: the numbers of labels and rows differ; labels or weights that do not fit the network's classes; counts or
            step sizes that are not positive.

    Example:
        >>> import torch
        >>> x = torch.eye(4)
        >>> losses = fit_classifier(torch.nn.Linear(4, 2), x, torch.tensor([0, 1, 0, 1]), epochs=50, learning_rate=0.1)
        >>> losses[-1] < losses[0]
        True
    """
    like = next(network.parameters())
    x = as_rows(x, "x").to(like)
    labels = _class_numbers(labels, len(x)).to(x.device)
    epochs, batch_size, seed = check_count("epochs", epochs), check_count("batch_size", batch_size), check_seed(seed)
    check_positive("learning_rate", learning_rate, "the first step size")
    check_positive("weight_decay", weight_decay, "that of AdamW", zero=True)
    with evaluating(network), torch.no_grad():
        classes = network(x[:1]).shape[-1]
    if int(labels.max()) >= classes:
        raise ValueError(
            f"labels got the class {int(labels.max())}; the network has scores of classes 0 to {classes - 1}"
        )
    weights = _weights(class_weights, labels, classes, x)
    fused = x.device.type in FUSED_ON
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=fused)
    steps = max(epochs * -(-len(x) // batch_size), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    losses = []
    network.train()
    with seeded(seed):
        for epoch in range(epochs):
            order = torch.randperm(len(x), generator=stream("order", seed, epoch)).to(x.device)
            total_loss, total = 0.0, 0.0
            for batch in order.split(batch_size):
                optimiser.zero_grad()
                loss = nn.functional.cross_entropy(network(x[batch]), labels[batch], weights)
                loss.backward()
                optimiser.step()
                schedule.step()
                counted = len(batch) if weights is None else float(weights[labels[batch]].sum())
                total_loss, total = total_loss + float(loss.detach()) * counted, total + counted
            losses.append(total_loss / total)
    network.eval()
    return losses


def _class_numbers(labels: Any, rows: int) -> Tensor:
    """Class numbers, checked: one for each of so many rows."""
    numbers = torch.as_tensor(labels.to_numpy() if hasattr(labels, "to_numpy") else labels)
    whole = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
    if numbers.shape != (rows,) or rows == 0 or not whole:
        raise ValueError(
            f"got {rows} rows and labels of shape {tuple(numbers.shape)}, {numbers.dtype}; expected one integer for each of at "
            "least one row"
        )
    if int(numbers.min()) < 0:
        raise ValueError(f"labels got {int(numbers.min())}; expected class numbers from 0")
    return numbers.long()


def _weights(given: Any, labels: Tensor, classes: int, like: Tensor) -> Tensor | None:
    """The weight of every class; None where all rows count alike."""
    if given is None:
        return None
    if isinstance(given, str):
        check_choice("class_weights", given, ["balanced"])
        counts = torch.bincount(labels, minlength=classes)
        return (len(labels) / (classes * counts.clamp(min=1))).to(like)
    weights = torch.as_tensor(given).to(like)
    if weights.shape != (classes,) or not ((weights > 0) & weights.isfinite()).all():
        raise ValueError(
            f"class_weights got {reprlib.repr(given)}; expected {classes} positive numbers, one per class, or 'balanced'"
        )
    return weights


def fine_tune(
    model: Any, train: Any, *, classes: int = 10, dropout: float = 0.0, input_dropout: float = 0.0, **options: Any
) -> Callable[[Any], Tensor]:
    r"""A classifier that starts from a deep machine's weights and is trained on labels (20.22-23; figure 20.4 d).

    Args:
        model: a trained ``dgm.DBN``, ``dgm.DBM`` or ``dgm.ConvolutionalDBN``; it is not changed.
        train: rows with labels: a ``Split``, one of torch's datasets or loaders of pairs, or a ``Dataset``, whose training rows
            are taken.
        classes: the number of classes.
        dropout: the share of hidden units dropped in training.
        input_dropout: the share of inputs dropped in training.
        options: options of ``fit_classifier``, as ``class_weights`` or ``seed``, by which equal calls give equal classifiers.

    Returns:
        The trained classifier: a function from rows of the model's data to class scores.

    Raises:
        TypeError: another kind of model.
        ValueError: the rows have no labels, or labels of other classes.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> dbn, x = dgm.DBN.example()
        >>> rows = dgm.data.Split(x, dgm.data.Space("binary"), torch.arange(10) % 2)
        >>> fine_tune(dbn, rows, classes=2, epochs=1)(x).shape
        torch.Size([10, 2])
    """
    if not hasattr(model, "to_mlp"):
        raise TypeError(
            f"fine_tune got a {type(model).__name__}; expected a deep machine whose weights a network can start from: dgm.DBN, "
            "dgm.DBM or dgm.ConvolutionalDBN"
        )
    split = train.train if isinstance(train, Dataset) else as_split(train, "train")
    if split.labels is None:
        raise ValueError("fine_tune got rows without labels; expected a Split with labels")
    classes = check_count("classes", classes, 2)
    labels = _class_numbers(split.labels, len(split))
    if int(labels.max()) >= classes:
        raise ValueError(
            f"labels got the class {int(labels.max())}; expected 0 to {classes - 1}, or another number of classes="
        )

    @torch.no_grad()
    def features(x: Any) -> Tensor:
        return torch.cat([model.classifier_input(rows) for rows in rows_for(model, x).split(FEATURE_ROWS)])

    with seeded(check_seed(options.get("seed", 0))):
        body = model.to_mlp(classes, dropout).to(next(model.parameters()))
        network = nn.Sequential(nn.Dropout(input_dropout), body)
        fit_classifier(network, features(split.x), labels, **options)

    @torch.no_grad()
    def classify(x: Any) -> Tensor:
        return network(features(x))

    return classify


def error_rate(scores: Tensor, labels: Tensor) -> float:
    """The share of rows whose highest score is not at their label.

    Raises:
        ValueError: the numbers of rows and labels differ.

    Example:
        >>> import torch
        >>> error_rate(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
        0.5
    """
    if scores.dim() != 2 or labels.shape != scores.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"error_rate got scores of shape {tuple(scores.shape)} and labels of shape {tuple(labels.shape)}; expected "
            "rows x classes and one class number for each row"
        )
    return float((scores.argmax(-1) != labels).float().mean())
