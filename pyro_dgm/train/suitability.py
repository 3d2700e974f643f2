"""Whether model, rows, criterion and settings go together, found out before training."""

from __future__ import annotations

import torch

from ..calls import warn_caller
from ..columns import has_missing
from ..data import Dataset, Split
from ..data.stored import StoredRows, blocks, in_order_of_file, spread_rows
from ..models.shared.model import Model
from ..models.shared.rows import OutsideSupport
from ..native import multiplies_bfloat16
from ..nets.modes import evaluating
from ..objectives.objective import Objective
from .settings import Settings

FEW = 20
"""The most different values of a column of whole numbers that a density tells little of."""


def check_data(model: Model, objective: Objective, data: Dataset) -> bool:
    """Refuse training or validation rows that the model or the criterion does not take, by the names of their columns.

    Returns:
        Whether the rows were looked at and none has missing values; bits that are drawn anew are not looked at.
    """
    complete = data.redraw is None
    for name in ("train", "valid"):
        split: Split = getattr(data, name)
        if name == "valid" or data.redraw is None:
            try:
                complete &= _check_rows(model, objective, split.x, name)
            except OutsideSupport as error:
                if data.columns is None or isinstance(split.x, StoredRows):
                    raise
                raise error.named(split.x, data.columns.numbers) from None
    return complete


def _check_rows(model: Model, objective: Objective, x: torch.Tensor, split: str) -> bool:
    """Refuse rows that the model or the criterion does not take; those of a file are gone through in its order.

    Returns:
        Whether no value is missing.
    """
    complete = True
    for start, rows in blocks(in_order_of_file(x)):
        try:
            complete &= _check_missing(model, objective, rows, split)
            model.check_data(rows)
        except ValueError as error:
            if len(rows) == len(x):
                raise
            raise ValueError(f"{error} (of {split!r}, counted from its row {start} in the file's order)") from None
    return complete


def _check_missing(model: Model, objective: Objective, x: torch.Tensor, split: str) -> bool:
    """Refuse missing values in rows for a model that cannot sum them out, or for a criterion of whole rows.

    Returns:
        Whether no value is missing.
    """
    if not has_missing(x):
        return True
    holes = x.isnan().flatten(1).any(1)
    if not model.takes_missing:
        raise ValueError(
            f"{type(model).__name__} got NaN, first in row {int(holes.nonzero()[0])} of {split!r}, and cannot sum missing values "
            "out of its likelihood; fit it on rows without, then impute(x, known=~x.isnan()) fills in the others. Boltzmann "
            "machines, orderless autoregressive models (OrderlessNADE) and variational autoencoders train on incomplete rows"
        )
    if objective.needs_whole_rows is not None:
        raise ValueError(
            f"rows have NaN, first in row {int(holes.nonzero()[0])} of {split!r}, and {type(objective).__name__} "
            f"{objective.needs_whole_rows}; train by a criterion that leaves missing values out, as the model's default does, or "
            "on complete rows"
        )
    return False


def check_rounding(model: Model, device: str) -> None:
    """Refuse products in half precision where figures would suffer, or where there are none."""
    name, dtype = type(model).__name__, next(model.parameters()).dtype
    if not model.rounds_safely:
        raise ValueError(
            f"precision got 'bfloat16' for {name}, which is trained in single precision: half precision would be lost in "
            "differences of energies and in long sums; leave precision out (models of dense or convolutional networks take it: "
            "VAEs, GANs, MADE, diffusions)"
        )
    if dtype != torch.float32 or torch.device(device).type not in ("cpu", "cuda"):
        raise ValueError(
            f"precision got 'bfloat16' for parameters of {dtype} on {device}; expected torch.float32 on cpu or cuda"
        )
    if torch.device(device).type == "cpu" and not multiplies_bfloat16():
        warn_caller("this processor has no units for bfloat16: precision='bfloat16' will be slower")


def check_monitored(model: Model, data: Dataset, objective: Objective, settings: Settings) -> None:
    """Refuse to choose the best epoch where neither progress nor loss tells which one it is."""
    several_losses = type(objective).turns is not Objective.turns
    if settings.keep == "last" and not (settings.patience is not None and several_losses):
        return
    rows = data.valid.x[:2].to(next(model.parameters()).device)
    with evaluating(model):
        figures = model.progress(rows, rows)
    if not any(name.startswith("valid_") for name in figures):
        raise ValueError(
            f"{type(model).__name__} has no figure on validation rows, and its losses do not tell which epoch is good; leave "
            "patience out and keep='last'"
        )


def warn_of_whole_columns(model: Model, data: Dataset) -> None:
    """Warn of columns of a table with a few values of their own that a model takes for real numbers."""
    x = spread_rows(data.train.x)
    row = x[:1].to(next(model.parameters()).device)
    if data.columns is None or model.measure(row) != "density":
        return
    real, kinds = model.density_columns(row), data.columns.kinds()
    whole = [
        name
        for number, (name, taken) in enumerate(zip(data.columns.numbers, real.tolist(), strict=False))
        if taken and (kinds[name] in ("boolean", "text") or (kinds[name] == "whole" and _few_values(x[:, number])))
    ]
    if whole:
        named = list(dict.fromkeys(whole))
        told = ", ".join(map(repr, named[:5])) + (" …" if len(named) > 5 else "")
        other = "OrderlessNADE" if has_missing(x) else "NeuralAutoregressive"
        chosen = f"a mixed output of {other} gives each column a law of its kind"
        fits = "output= can name 'binary' for each zero or one, and 'categorical:C' for whole numbers from 0 to C - 1"
        warn_caller(
            f"{type(model).__name__} models columns of texts, booleans or few whole numbers as real ones ({told}); "
            f"{chosen if bool(real.all()) else fits}: see 'Which model for a mixed table' of the guide to data of your own"
        )


def _few_values(column: torch.Tensor) -> bool:
    """Whether a column holds few different values, many times each."""
    known = column[~column.isnan()]
    return len(known.unique()) <= min(FEW, len(known) / 2)
