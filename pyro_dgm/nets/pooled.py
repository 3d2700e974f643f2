"""Convolutions whose regions answer with the probability that one of their detectors is on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import check_count


class PooledConvolution(nn.Module):
    r"""Filters, and the probability that a region has a detector on: $s / (1 + s)$, $s = \sum_i e^{z_i}$ (section 20.6).

    With at most one of a region's detectors on, of fields z, that is the mean of its pooling unit (Lee, Grosse, Ranganath and
    Ng 2009). ``rows x channels x height x width`` to ``rows x filters x height x width`` of the regions.

    Args:
        weight: filters, ``filters x channels x height x width``; copied.
        bias: one a filter; copied.
        pool: height and width of a region, which divide the positions.
        full: whether positions are those that touch the picture, rather than those inside it.

    Example:
        >>> layer = PooledConvolution(torch.zeros(2, 1, 3, 3), torch.zeros(2), (2, 2))
        >>> layer(torch.zeros(1, 1, 6, 6))[0, 0]
        tensor([[0.8000, 0.8000],
                [0.8000, 0.8000]], grad_fn=<SelectBackward0>)
    """

    def __init__(self, weight: Tensor, bias: Tensor, pool: Sequence[int], full: bool = False) -> None:
        super().__init__()
        filters, channels, height, width = weight.shape
        padding = (height - 1, width - 1) if full else (0, 0)
        self.convolution = nn.Conv2d(channels, filters, (height, width), padding=padding)
        self.convolution.weight, self.convolution.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        self.pool = tuple(pool)

    def forward(self, x: Tensor) -> Tensor:
        z, (rows, columns) = self.convolution(x), self.pool
        # Places of a region side by side, over which sums are fast: half of the time of logsumexp over the region's two sides.
        places = torch.stack([z[..., i::rows, j::columns] for i in range(rows) for j in range(columns)])
        top = places.detach().amax(0).clamp(min=0.0)
        on: Tensor = (places - top).exp().sum(0)
        return on / (on + (-top).exp())


class PooledClassifier(nn.Module):
    """Pooled convolutions, one after another, and class scores that are linear in what all of them answer.

    ``rows x pixels`` to ``rows x classes``.

    Args:
        layers: the convolutions, the lowest first.
        shape: channels, height and width of a picture.
        features: the number of all answers.
        classes: the number of classes.
        dropout: the share of the answers that training drops on their way to the scores.

    Raises:
        ValueError: fewer than two classes.
    """

    def __init__(
        self,
        layers: Sequence[PooledConvolution],
        shape: Sequence[int],
        features: int,
        classes: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape, self.layers = tuple(shape), nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Linear(features, check_count("classes", classes, 2, "the number of classes"))
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.zeros_(self.scores.bias)

    def features(self, x: Tensor) -> Tensor:
        """The answers of all layers, the lowest first: ``rows x features``."""
        picture, answers = x.unflatten(-1, self.shape), []
        for layer in self.layers:
            picture = layer(picture)
            answers.append(picture.flatten(1))
        return torch.cat(answers, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.dropout(self.features(x)))
        return scores
