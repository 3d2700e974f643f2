"""Greedy layer-wise pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import check_rows, check_seed
from ..data import Dataset, Space, Split
from ..data.binarise import draw
from ..data.rows import as_dataset
from ..inference.random_state import seeded
from ..models.shared.layerwise import Layerwise
from ..nets.modes import frozen_stay
from .fit import fit
from .trainer import Run

LIFTED_ROWS = 5000
"""Rows that are lifted to the next layer at a time, which bounds the memory of the layers' probabilities."""


def pretrain(
    model: Any,
    data: Any,
    *,
    objective: dict[str, Any] | None = None,
    layers: Sequence[dict[str, Any]] | None = None,
    stages: dict[str, Any] | None = None,
    out: str | None = None,
    **options: Any,
) -> list[Run]:
    r"""Train a deep model layer by layer, each on samples of the posterior of the layer below (20.21).

    Every stage is a restricted machine that ``fit`` trains; the samples are drawn afresh for every batch. The stages of a
    deep Boltzmann machine have doubled and halved weights (20.4.4).

    Args:
        model: a model with ``stages()``, such as ``dgm.DBN`` or ``dgm.DBM``; trained in place.
        data: a dataset, or rows as ``fit`` takes them.
        objective: options of each stage's objective, as ``{"k": 1, "chains": 100}``.
        layers: one dictionary of options per stage, from the lowest; they take precedence over the common ones.
        stages: options of the model's ``stages``, as ``{"scheme": "restricted"}`` for a ``dgm.DBM``.
        out: a folder for the stages' runs.
        options: options of ``fit``, common to all stages. With ``resume=True`` finished stages are taken as they are, and the
            one that was interrupted goes on.

    Returns:
        The stages' runs, from the lowest.

    Raises:
        ValueError: the model has no layers to pretrain, or ``layers`` does not have one entry for each of them.

    Example:
        >>> import pyro_dgm as dgm
        >>> dbn, x = dgm.DBN.example()
        >>> len(dgm.pretrain(dbn, x, epochs=1, progress=False))
        2
    """
    if not (isinstance(model, nn.Module) and isinstance(model, Layerwise)):
        raise ValueError(f"pretrain got {type(model).__name__}, which is not trained layer by layer; use dgm.fit")
    dtype = next(model.parameters()).dtype
    data = as_dataset(data)
    data = replace(data, train=data.train.to(dtype), valid=data.valid.to(dtype), test=data.test.to(dtype))
    for split in (data.valid, data.test) if data.redraw else (data.train, data.valid):
        model.check_data(split.x)
        check_rows(split.x, split.x.shape[1:], "pretrain")  # the layers above learn features, which need whole rows
    common = {"objective": objective or {}, "source": {}, **options}
    if layers is not None and len(layers) != len(model.hidden):
        raise ValueError(f"layers got {len(layers)} entries; expected {len(model.hidden)}, one for every hidden layer")
    by_stage: Sequence[dict[str, Any]] = layers or [{}] * len(model.hidden)
    with seeded(check_seed(options.get("seed", 0))), frozen_stay(model):
        runs = []
        for number, (machine, lift) in enumerate(model.stages(**(stages or {}))):
            stage_options = common | by_stage[number]
            folder = None if out is None else Path(out) / f"layer{number + 1}"
            if stage_options.get("resume") and folder is not None and not folder.exists():
                stage_options["resume"] = False  # the interrupted run has not come so far
            criterion = machine.objective(**stage_options.pop("objective"))
            runs.append(fit(machine, _lifted(data, lift), objective=criterion, out=folder, **stage_options))
    model.fresh = False
    return runs


def _lifted(data: Dataset, lift: Any) -> Dataset:
    """The data of a stage: the rows themselves, or probabilities of bits above.

    Unless all are bits, those of training are drawn afresh for every batch.
    """
    rows = data.train.x[:1]
    if lift(rows) is rows:
        return data

    def apply(split: Split) -> Split:
        with torch.no_grad():
            return Split(torch.cat([lift(rows) for rows in split.x.split(LIFTED_ROWS)]), Space("binary", "posterior"))

    train, valid, test = apply(data.train), apply(data.valid), apply(data.test)
    if bool(((train.x == 0) | (train.x == 1)).all()):
        return Dataset(data.name, train, valid, test, (train.x.shape[1],), None)

    valid = Split(torch.bernoulli(valid.x), valid.space)
    return Dataset(data.name, train, valid, test, (train.x.shape[1],), draw)
