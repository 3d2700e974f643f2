"""What a trainer has done so far, as the state from which a run goes on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import processes
from ..inference.random_state import python_and_numpy, set_python_and_numpy
from ..objectives.objective import Objective
from .averages import Averages
from .best import Best
from .checkpoint import save_state
from .schedules import Schedule


class Progressing(Protocol):
    """What a run has come to: ``Trainer`` has these attributes."""

    device: torch.device
    folder: Path | None
    model: Any
    objective: Objective
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    averages: Averages
    history: list[dict[str, float]]
    best: Best
    ended: bool


def save_progress(trainer: Progressing, folder: Path, epoch: int) -> None:
    """Write the training state of all processes after a number of epochs."""
    objective, device, processor = trainer.objective, trainer.device, torch.device("cpu")
    process_state = {
        "objective": objective.state_dict(),
        "owned": objective.owned_state(),
        "random": torch.get_rng_state(),
        **python_and_numpy(),
        "random_device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    process_states = processes.collect(to_device(process_state, processor))
    if not processes.first():
        return
    common_state = {
        "epoch": epoch,
        "model": trainer.model.state_dict(),
        "averaged": trainer.averages.means,
        "optimiser": trainer.optimiser.state_dict(),
        "schedule": trainer.schedule.state_dict(),
        "history": trainer.history,
        "best": trainer.best.figure,
        "stale": trainer.best.stale,
        "ended": trainer.ended,
        "best_weights": trainer.best.weights,
        "best_epoch": trainer.best.epoch,
    }
    save_state(folder, to_device(common_state, processor) | process_states[0] | {"others": process_states[1:]})


def restore_progress(trainer: Progressing, state: dict[str, Any]) -> int:
    """Give a trainer the stored state of its run; returns the number of epochs that it has trained.

    Raises:
        ValueError: the state is not one of this model under these settings.
    """
    objective, device = trainer.objective, trainer.device
    try:
        process_state = [state, *state.get("others", [])][processes.rank()]
        trainer.model.load_state_dict(state["model"])
        trainer.optimiser.load_state_dict(state["optimiser"])
        trainer.schedule.load_state_dict(state.get("schedule", {}))
        objective.load_state_dict(to_device(process_state["objective"], device))
        objective.load_owned_state(to_device(process_state.get("owned", {}), device))
        trainer.averages.means = to_device(state["averaged"], device)
        trainer.history, best = state["history"], trainer.best
        best.figure, best.stale = state["best"], state["stale"]
        best.weights, best.epoch = to_device(state.get("best_weights"), device), state.get("best_epoch", 0)
        trainer.ended = bool(state.get("ended", False))
        torch.set_rng_state(process_state["random"])
        if "numpy" in process_state:  # earlier versions kept torch's state alone
            set_python_and_numpy(process_state)
        if process_state["random_device"] is not None:
            torch.cuda.set_rng_state(process_state["random_device"], device)
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the training state in {trainer.folder} does not fit this model: {reason}") from None
    return int(state["epoch"])


def to_device(tree: Any, device: torch.device) -> Any:
    """Nested containers with all their tensors on a device."""
    if isinstance(tree, dict):
        return {key: to_device(value, device) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(to_device(value, device) for value in tree)
    return tree.to(device) if isinstance(tree, Tensor) else tree
