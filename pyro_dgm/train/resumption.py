"""Whether a folder holds a run, and whether a run that is asked for goes on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import registry
from ..calls import warn_caller
from ..models.shared.model import Model
from ..objectives.objective import Objective
from .checkpoint import CONFIG, has_checkpoint, read_config
from .configuration import machine
from .schedules import bound_to_epochs
from .settings import Settings


def check_folder(
    folder: Path | None,
    resume: bool,
    model: Model,
    objective: Objective,
    settings: Settings,
    described: dict[str, Any],
) -> bool:
    """Refuse a folder that holds a run already, or with ``resume`` one that this run does not continue.

    A run that saved nothing before it ended is no run: its folder counts as empty.

    Returns:
        Whether there is a checkpoint to go on from.
    """
    if folder is None:
        if resume:
            raise ValueError("resume needs out=, the folder of the run to go on with")
        return False
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out got {folder}, which is a file; expected a folder")
    if not has_checkpoint(folder):
        if resume or (folder / CONFIG).exists():
            _check_own(folder)
        return False
    if not resume:
        raise ValueError(f"{folder} holds a run already; choose another folder, or go on with it by resume (--resume)")
    config = read_config(folder, complete=True)
    if not registry.is_of(type(model), config["model"], config.get("origin")) or not _same(
        config["options"], model.options()
    ):
        stored_model, given = (
            config.get("origin", config["model"]),
            registry.origin(type(model)) or type(model).__name__.lower(),
        )
        raise ValueError(
            f"{folder} holds a run of {stored_model} with {config['options']}, not of {given} with {model.options()}; "
            "resume with the same model"
        )
    if not _same(config["objective"], objective.options()):
        raise ValueError(
            f"{folder} was trained with {config['objective']}, not {objective.options()}; resume with the same objective"
        )
    _check_same_data(folder, config["data"], described)
    _check_same_settings(folder, config["training"], objective, settings)
    _warn_of_another_machine(folder, config.get("machine"))
    return True


def _check_own(folder: Path) -> None:
    """Refuse to write where somebody else's configuration stands, or to resume where none is."""
    try:
        read_config(folder)
    except ValueError as error:
        if not (folder / CONFIG).exists():
            raise
        raise ValueError(f"{error}; {folder} holds no weights of a run either: choose another folder") from None


def _same(stored: Any, given: Any) -> bool:
    """Whether a value is what a configuration states: as JSON, which knows neither tuples nor keys that are numbers."""
    return bool(stored == json.loads(json.dumps(given)))


DESCRIBED = ("shape", "space", "rows", "digest")
"""What must be the same of a resumed run's data, wherever they lie; runs of earlier versions state no digest."""


def _check_same_data(folder: Path, stored: dict[str, Any], described: dict[str, Any]) -> None:
    """Refuse to resume on other rows, or on the same in another order."""
    for name in DESCRIBED:
        if name in stored and not _same(stored[name], described[name]):
            what = "with other rows, or in another order" if name == "digest" else f"with {name} {stored[name]}"
            got = "" if name == "digest" else f", not {described[name]}"
            raise ValueError(f"{folder} was trained on data {what}{got}; resume with the same data")


def _check_same_settings(folder: Path, stored: dict[str, Any], objective: Objective, settings: Settings) -> None:
    """Refuse settings that would not have led to what is stored."""
    for name, value in vars(settings).items():
        before = stored.get(name, DEFAULTS.get(name))
        if name != "epochs" and not _same(before, value):
            raise ValueError(f"{folder} was trained with {name}={before!r}, not {value!r}; resume with the same")
    bound = bound_to_epochs(settings.decay, settings.decay_options)
    changing = "its step size" if bound else "its criterion" if objective.scheduled() else None
    if changing and stored["epochs"] != settings.epochs:
        raise ValueError(f"{folder} changes {changing} over {stored['epochs']} epochs; resume with the same number")


def _warn_of_another_machine(folder: Path, stored: dict[str, Any] | None) -> None:
    """Say so where rounding may differ from that of the epochs before."""
    here = machine()
    for name, value in (stored or {}).items():
        if name in here and here[name] != value:
            warn_caller(
                f"{folder} was trained on {name} {value!r}, not {here[name]!r}: sums may round differently, so that the end may "
                "differ from that of a run without interruption"
            )


def check_state(folder: Path, state: dict[str, Any], world: int, epochs: int) -> None:
    """Refuse to resume with fewer epochs than were trained, or with another number of processes, each of which has its chains."""
    stored = 1 + len(state.get("others", []))
    if stored != world:
        raise ValueError(
            f"{folder} was trained by {stored} process{'es' * (stored > 1)}, not {world}; resume with devices={stored} "
            f"(--devices {stored}, or torchrun --nproc-per-node {stored})"
        )
    if epochs < state["epoch"]:
        raise ValueError(
            f"{folder} was trained for {state['epoch']} epochs already, and epochs got {epochs}; expected at least as many"
        )


DEFAULTS: dict[str, Any] = {"keep": "last", "decay_options": {}, "clip": None, "precision": "float32"}
"""Values of settings that runs of earlier versions do not state."""
