"""Parts of results that several commands show."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .. import signatures
from ..data import Split
from ..data.stored import StoredRows, spread, spread_rows
from .runs import Opened

NAMES = {"train": "training", "valid": "validation", "test": "test"}
"""The splits in words."""


def last_line(row: Mapping[str, float]) -> str:
    """The figures of an epoch with their units.

    Example:
        >>> last_line({"epoch": 2, "loss": 1.5, "valid_elbo": -1.25, "seconds": 0.5, "cpu_seconds": 0.25})
        'epoch 2, loss 1.5, valid_elbo -1.25 nats a row, 0.5 seconds for this epoch (0.25 of the processor)'
    """
    words = []
    for name, value in row.items():
        if name not in ("seconds", "cpu_seconds"):
            in_nats = any(figure in name for figure in ("elbo", "likelihood", "bound"))
            unit = f" nats a {'frame' if name.endswith('per_frame') else 'row'}" if in_nats else ""
            words.append(f"{name} {value:.4g}{unit}")
    if "seconds" in row:
        busy = f" ({row['cpu_seconds']:.3g} of the processor)" if "cpu_seconds" in row else ""
        words.append(f"{row['seconds']:.3g} seconds for this epoch{busy}")
    return ", ".join(words)


def likelihood(opened: Opened, split: Split, method: str | None = None, **options: Any) -> tuple[Any, dict[str, float]]:
    """The log-likelihood of rows under a run's model, with its details; annealing may start from the training rows."""
    from ..evaluation.likelihood import with_details

    model, dataset = opened.model, opened.dataset
    defaults = {} if dataset.redraw is not None else model.evidence_options(spread_rows(dataset.train.x), method)
    return with_details(model, _rows_to_evaluate(split), method=method, **{**defaults, **options})


def of_method(model: Any, options: Namespace) -> dict[str, Any]:
    """The options of ``--method`` that a command line states, read by their types; rows cannot be given so.

    Raises:
        ValueError: an option that the method does not have, with those that it has, or a value of another type.
    """
    pairs, method = options.method_option, options.method
    if not pairs:
        return {}
    name = f"the log-likelihood of {type(model).__name__}{'' if method is None else f' by {method!r}'}"
    known = model.evidence_arguments(method) if "evidence" in model.abilities() else {}
    return signatures.settings(signatures.without_arrays(known), pairs, "--method-option", name)


def _rows_to_evaluate(split: Split) -> Split:
    """The rows of a split; of many that stay in their file some from all over them, which is said."""
    if not isinstance(split.x, StoredRows):
        return split
    index = spread(len(split))
    if len(index) < len(split):
        warnings.warn(
            f"{len(index)} of {len(split)} rows are evaluated, from all over {split.x.source.path}; --data names other rows",
            stacklevel=2,
        )
    return split[index]


def imputed_picture(
    opened: Opened, x: Tensor, known: Tensor, means: Tensor, whole: bool = True, path: Any = None
) -> Any:
    """A picture of rows that were filled in, below the rows themselves where they are known."""
    from ..evaluation import pictures

    truth, filled = (opened.grey(opened.pixels(rows)) for rows in (x, means))
    shown = opened.pixels(known.expand(x.shape))
    return pictures.imputations(
        truth if whole and not bool(truth.isnan().any()) else None, shown, filled, opened.shape, path=path
    )
