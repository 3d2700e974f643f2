"""Training a classifier on a deep machine's features, and its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Split
from ..data.streams import stream

FEATURE_ROWS = 2000
"""Rows whose features are inferred at a time, which bounds the memory that mean field takes."""


def fit_classifier(
    network: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epochs: int = 20,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
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
        seed: seed of the batches' order; dropout draws from torch's generator.

    Returns:
        The mean loss of every epoch, in nats per row.

    Raises:
        ValueError: the numbers of labels and rows differ, or labels are no class numbers.

    Example:
        >>> import torch
        >>> x = torch.eye(4)
        >>> losses = fit_classifier(torch.nn.Linear(4, 2), x, torch.tensor([0, 1, 0, 1]), epochs=50, learning_rate=0.1)
        >>> losses[-1] < losses[0]
        True
    """
    if len(x) != len(labels) or labels.dim() != 1 or labels.is_floating_point():
        raise ValueError(
            f"fit_classifier got {len(x)} rows and labels of shape {tuple(labels.shape)}, {labels.dtype}; expected one "
            "integer per row"
        )
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps = max(epochs * -(-len(x) // batch_size), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    losses = []
    network.train()
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=stream("order", seed, epoch)).to(x.device)
        total_loss = 0.0
        for batch in order.split(batch_size):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(network(x[batch]), labels[batch].long())
            loss.backward()
            optimiser.step()
            schedule.step()
            total_loss += float(loss.detach()) * len(batch)
        losses.append(total_loss / len(x))
    network.eval()
    return losses


def fine_tune(
    model: Any, train: Split, *, classes: int = 10, dropout: float = 0.0, input_dropout: float = 0.0, **options: Any
) -> Callable[[Tensor], Tensor]:
    r"""A classifier that starts from a deep machine's weights and is trained on labels (20.22-23; figure 20.4 d).

    Args:
        model: a trained ``dgm.DBN`` or ``dgm.DBM``; it is not changed.
        train: rows with labels.
        classes: the number of classes.
        dropout: the share of hidden units dropped in training.
        input_dropout: the share of inputs dropped in training.
        options: options of ``fit_classifier``.

    Returns:
        The trained classifier: a function from rows of the model's data to class scores.

    Raises:
        ValueError: the rows have no labels.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> dbn, x = dgm.DBN.example()
        >>> rows = dgm.data.Split(x, dgm.data.Space("binary"), torch.arange(10) % 2)
        >>> fine_tune(dbn, rows, classes=2, epochs=1)(x).shape
        torch.Size([10, 2])
    """
    if train.labels is None:
        raise ValueError("fine_tune got rows without labels; expected a Split with labels")

    def features(x: Tensor) -> Tensor:
        return torch.cat([model.classifier_input(rows) for rows in x.split(FEATURE_ROWS)])

    body = model.to_mlp(classes, dropout).to(train.x)
    network = nn.Sequential(nn.Dropout(input_dropout), body)
    fit_classifier(network, features(train.x), train.labels, **options)

    @torch.no_grad()
    def classify(x: Tensor) -> Tensor:
        return network(features(x))

    return classify


def error_rate(scores: Tensor, labels: Tensor) -> float:
    """The share of rows whose highest score is not at their label.

    Example:
        >>> import torch
        >>> error_rate(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
        0.5
    """
    return float((scores.argmax(-1) != labels).float().mean())
