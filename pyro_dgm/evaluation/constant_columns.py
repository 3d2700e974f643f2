"""Columns that hold one value, in which a density can grow without limit, and what they make of a figure (section 20.14)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..inference.random_state import untouched
from ..models.shared.model import Model

NAMED = 10
"""The most columns that a message names."""

SHARE = 0.99
"""A column of which one value has this share or more holds one value in nearly all rows."""

FEWEST = 100
"""Rows from which on a share below one tells something about a column."""

DRAWS = 1000
"""Samples from which the location and scale of such columns under a model are taken."""


def constant_columns(x: Tensor, among: Tensor) -> Tensor:
    """A mask of the columns of a density that hold one value in all of two rows or more, or nearly all of a hundred.

    Args:
        x: rows, ``n x event_shape``, with NaN where a value is missing.
        among: booleans that mark the columns with a density.

    Returns:
        booleans, ``event_shape``.

    Example:
        >>> constant_columns(torch.tensor([[0.0, 3.0], [1.0, 3.0]]), torch.tensor([True, True]))
        tensor([False,  True])
    """
    if len(x) < 2:
        return torch.zeros_like(among)
    middle = x.nanmedian(0).values  # the value of more than half of the rows, if there is one
    share = (x == middle).double().sum(0) / (~x.isnan()).sum(0)
    return (share >= (SHARE if len(x) >= FEWEST else 1.0)) & among


def nats_of_columns(model: Model, x: Tensor, columns: Tensor) -> float | None:
    r"""The share of a mean log-density that some columns have: $\frac1n \sum_{id} \log N(x_{id}; m_d, s_d^2)$, in nats a row.

    The means $m_d$ and standard deviations $s_d$ are those of samples of the model. This is exact where columns are normal and
    independent of one another, but for the error of the samples; the random state stays as it was.

    Args:
        model: the model.
        x: rows.
        columns: booleans, ``event_shape``.

    Returns:
        the nats, or None where the model does not draw such rows on its own.
    """
    with untouched(), torch.no_grad():
        try:
            drawn = model.sample(DRAWS)
        except (ValueError, NotImplementedError):
            return None
    if drawn.shape[1:] != x.shape[1:]:
        return None
    drawn, rows = (values[:, columns].double() for values in (drawn, x))
    mean = drawn.nanmean(0)
    variance = (drawn - mean).square().nanmean(0).clamp_min(torch.finfo(torch.float64).tiny)
    densities = -0.5 * ((rows - mean).square() / variance + variance.log() + math.log(2 * math.pi))
    return float(densities.nansum(1).mean())


def warning_of(x: Tensor, columns: Tensor, nats: float | None) -> str:
    """A sentence about constant columns: which they are, what they make of the figure, and what to do.

    Args:
        x: the rows.
        columns: booleans, as ``constant_columns`` returns them.
        nats: their share of the figure.
    """
    where = columns.flatten().nonzero().flatten().tolist()
    named = ", ".join(map(str, where[:NAMED])) + (f" and {len(where) - NAMED} more" if len(where) > NAMED else "")
    holds = f"the column {named} holds" if len(where) == 1 else f"the columns {named} hold"
    nearly = "" if bool((x == x[:1])[:, columns].all()) else "nearly "
    share = "" if nats is None else f". They make about {nats:.4g} nats of the figure" if len(where) > 1 else (
        f". It makes about {nats:.4g} nats of the figure"
    )  # fmt: skip
    return (
        f"{holds} one value in {nearly}all {len(x)} rows, where a density can grow without limit{share}: the figure is not to "
        "be trusted, nor compared with another. Leave out such columns, or add noise of the size of a step (dequantisation)"
    )
