"""The configuration of a run, which rebuilds its model and tells what it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyro
import torch

from .. import __version__, registry
from ..data import Dataset
from ..files import write_json
from ..inference.random_state import untouched
from ..models.shared.model import Model
from ..native import processor_name
from ..objectives.objective import Objective
from .checkpoint import CONFIG, FORMAT, digest
from .settings import Settings


def machine() -> dict[str, Any]:
    """What the rounding of sums depends on."""
    return {"processor": processor_name(), "threads": torch.get_num_threads()}


def describe(data: Dataset, source: dict[str, Any] | None) -> dict[str, Any]:
    """The description of a run's data: name, shape, space, numbers of rows, their digest, columns of a table, and origin."""
    rows = [len(data.train), len(data.valid), len(data.test)]
    return {
        "name": data.name, "shape": list(data.shape), "space": str(data.test.space), "rows": rows,
        "digest": digest({"train": data.train.x, "valid": data.valid.x}),
        **({} if data.columns is None or "changed" in (source or {}) else {"columns": data.columns.as_dict()}),
        **(source or {}),
    }  # fmt: skip


def check_rebuilt(model: Model) -> None:
    """Refuse a model that a run on disk could not hold: one that its options do not build again, as they build it now.

    Networks that a user gave as arguments are known, and ``dgm.load(run, model=...)`` loads them.

    Raises:
        ValueError: the options build no model, or one with other weights; the message names the first that differs.
    """
    if model.own_networks:
        return
    try:
        with untouched():
            other = type(model)(**model.options())
    except Exception as error:
        raise ValueError(
            f"out= needs a model that its options build again, but {type(model).__name__}(**model.options()) fails "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0]}); mend options(), or train without out="
        ) from error
    shapes = [{name: tuple(value.shape) for name, value in m.state_dict().items()} for m in (model, other)]
    for name in shapes[0] | shapes[1]:
        found = [str(of.get(name, "missing")) for of in shapes]
        if found[0] != found[1]:
            raise ValueError(
                f"out= needs a model that its options build again, but {name!r} is {found[0]} here and {found[1]} in "
                f"{type(model).__name__}(**model.options()). Give networks of your own as arguments (encoder=, decoder=) rather "
                "than replace them later, or train without out="
            )


def write_config(
    folder: Path,
    model: Model,
    objective: Objective,
    settings: Settings,
    described: dict[str, Any],
) -> None:
    """Write the configuration, which rebuilds the model and explains the run."""
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "model": type(model).__name__.lower(),
            **({"origin": origin} if (origin := registry.origin(type(model))) else {}),
            "options": model.options(),
            **({"own_networks": model.own_networks} if model.own_networks else {}),
            "objective": objective.options(),
            **({} if objective.arguments is None else {"objective_options": objective.arguments}),
            "training": vars(settings),
            "data": described,
            "machine": machine(),
            "versions": {"pyro_dgm": __version__, "pyro": pyro.__version__, "torch": torch.__version__},
        },
    )
