"""Runs on disk: weights as safetensors, configuration as JSON, training state without executable code."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import registry
from .formats import FORMAT, translated

CONFIG, WEIGHTS, STATE = "config.json", "weights.safetensors", "training.pt"


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write through a temporary file in the same folder that replaces ``path`` only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def read_config(run: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of a run.

    Raises:
        ValueError: the folder holds no run, or a file that is no configuration of this package.
    """
    path = Path(run) / CONFIG
    if not path.is_file():
        raise ValueError(
            f"{run} holds no run: there is no {CONFIG} in it. Expected a folder written by fit(..., out=...)"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is truncated or no JSON ({error}); restore it or train again") from None
    if not isinstance(config, dict) or not {"format", "model", "options"} <= set(config):
        raise ValueError(f"{path} is not the configuration of a pyro_dgm run")
    if config["format"] not in range(1, FORMAT + 1):
        raise ValueError(f"{path} has format {config['format']!r}; this version reads formats 1 to {FORMAT}")
    return translated(config)


def save_weights(run: Path, weights: Mapping[str, Tensor]) -> None:
    """Write the weights of a model's ``state_dict``."""
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    write_atomically(run / WEIGHTS, lambda p: save_file(tensors, p))


def load(run: str | os.PathLike[str], device: str | torch.device = "cpu", model: str | type | None = None) -> Any:
    """The model of a run with its weights; no code that the run's files name is imported or executed.

    Args:
        run: the folder that ``fit(..., out=...)`` wrote.
        device: the device of the model.
        model: the class of the model where it is not this package's, or its name, ``"path/to/file.py:Class"``.

    Raises:
        ValueError: a model that is not this package's and was not given; the folder holds no run, or its files are truncated,
            foreign, or do not fit each other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(run)
    path = Path(run) / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{run} has no {WEIGHTS}: training stopped before its first checkpoint; train again or resume")
    instance = registry.of_run(config["model"], config.get("origin"), model)(**config["options"])
    try:
        tensors = load_file(path)
        dtype = next(iter(tensors.values())).dtype
        instance.to(dtype).load_state_dict(tensors)
    except (SafetensorError, RuntimeError, StopIteration, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is truncated or holds no weights of {config['model']} ({reason})") from None
    instance.fresh = False
    return instance.to(device).eval()


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write the state that resuming needs: tensors, numbers, strings and containers of them."""
    write_atomically(run / STATE, lambda p: torch.save(state, p))


def load_state(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the training state of a run without executing code.

    Raises:
        ValueError: there is none, or the file is truncated, foreign, or wants to execute code.
    """
    path = Path(run) / STATE
    if not path.is_file():
        raise ValueError(f"{run} has no {STATE} to resume from; train without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is truncated or not a training state of this package ({reason[:200]})") from None
    if not isinstance(state, dict) or "model" not in state or "epoch" not in state:
        raise ValueError(f"{path} is not a training state of this package")
    return state
