"""Runs on disk: weights as safetensors, configuration as JSON, training state without executable code."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import registry, signatures
from ..data.reading import read_json
from ..data.stored import StoredRows
from ..files import write_atomically
from ..models.shared.model import Model
from .formats import FORMAT, translated
from .schema import Config, State

CONFIG, WEIGHTS, STATE = "config.json", "weights.safetensors", "training.pt"

CHECKSUM = "sha256"
"""The entry with the checksum in the metadata of the file of weights."""


def read_config(run: str | os.PathLike[str], complete: bool = False) -> dict[str, Any]:
    """The configuration of a run, checked by ``schema.Config``.

    Args:
        run: the folder.
        complete: refuse a configuration that rebuilds the model but does not say how it was trained.

    Raises:
        ValueError: the folder holds no run, or a file that is no configuration of this package.
    """
    path = Path(run) / CONFIG
    if not path.is_file():
        raise ValueError(
            f"{run} holds no run: there is no {CONFIG} in it. Expected a folder written by fit(..., out=...)"
        )
    config = read_json(path, "restore it or train again")
    if not isinstance(config, dict) or not {"format", "model", "options"} <= set(config):
        raise ValueError(f"{path} is not the configuration of a pyro_dgm run")
    if config["format"] not in range(1, FORMAT + 1):
        raise ValueError(
            f"{path} has format {signatures.shortened(config['format'])}; this version reads formats 1 to {FORMAT}"
        )
    if problem := signatures.mismatch(config, Config, CONFIG):
        raise ValueError(f"{path} is not the configuration of a pyro_dgm run: {problem}; restore it or train again")
    if not config["model"].isidentifier():  # a name is no file to run
        raise ValueError(f"{path} names the model {signatures.shortened(config['model'])}; expected a class name")
    for part in ("objective", "training", "data") if complete else ():
        if part not in config:
            raise ValueError(f"{path} lacks {part!r}, so that the run cannot go on; restore it or train again")
    return translated(config)


def has_checkpoint(run: str | os.PathLike[str]) -> bool:
    """Whether a folder holds weights or a training state; a configuration alone was left by a run that saved nothing."""
    return any((Path(run) / name).exists() for name in (WEIGHTS, STATE))


def save_weights(run: Path, weights: Mapping[str, Tensor]) -> None:
    """Write the weights of a model's ``state_dict``, with a checksum."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    content = save(tensors, {CHECKSUM: digest(tensors)})
    write_atomically(run / WEIGHTS, lambda file: file.write(content))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A checksum of named tensors: names, types, shapes and values (of rows in a file, that of the file)."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        if isinstance(value, StoredRows):
            found.update(value.source.digest())
        else:
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load(run: str | os.PathLike[str], device: str | torch.device = "cpu", model: str | type | Any | None = None) -> Any:
    """The model of a run with its weights; no code that the run's files name is imported or executed.

    Args:
        run: the folder that ``fit(..., out=...)`` wrote.
        device: the device of the model.
        model: the class of the model where it is not this package's, or its name, ``"path/to/file.py:Class"``. Of a run whose
            networks are a user's own, a model that was made with such networks; it takes the weights and is returned.

    Raises:
        ValueError: a model that is not this package's and was not given; the folder holds no run, or its files are truncated,
            damaged or foreign, or do not fit each other.
    """
    from safetensors import SafetensorError

    config = read_config(run)
    path = Path(run) / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{run} has no {WEIGHTS}: training stopped before its first checkpoint; train again or resume")
    if isinstance(model, Model):
        instance = _fitting(model, config, run)
    elif own := config.get("own_networks"):
        words = ", ".join(f"{name}={cls}(...)" for name, cls in own.items())
        raise ValueError(
            f"{run} was trained with networks of your own ({words}), which no file can rebuild; make the model again and give "
            "it: dgm.load(run, model=instance)"
        )
    else:
        instance = _built(config, run, model)
    try:
        tensors = _read_weights(path)
        if strange := [name for name, value in tensors.items() if value.is_complex()]:
            raise ValueError(f"{strange[0]} holds complex numbers")
        dtype = next(value.dtype for value in tensors.values() if value.is_floating_point())
        instance.to(dtype).load_state_dict(tensors)
    except (SafetensorError, RuntimeError, StopIteration, OSError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is truncated or holds no weights of {config['model']} ({reason})") from None
    instance.fresh = False
    return instance.to(device).eval()


def _fitting(model: Model, config: dict[str, Any], run: str | os.PathLike[str]) -> Model:
    """A user's model, after a check that it is of the run's class and options."""
    given = json.loads(json.dumps(model.options()))
    if not registry.is_of(type(model), config["model"], config.get("origin")) or given != config["options"]:
        raise ValueError(
            f"{run} holds a run of {config.get('origin', config['model'])} with {config['options']}, not of "
            f"{registry.origin(type(model)) or type(model).__name__.lower()} with {given}; give a model that was made alike"
        )
    return model


def _built(config: dict[str, Any], run: str | os.PathLike[str], model: str | type | None) -> Any:
    """The model that a configuration describes, with fresh weights."""
    cls, wide = registry.of_run(config["model"], config.get("origin"), model), config["options"].get("visible", 1)
    try:
        instance: Any = registry.call(cls, config["options"], cls.__name__, wide if isinstance(wide, int) else 1)
    except ValueError as error:
        raise ValueError(f"{Path(run) / CONFIG} has options that build no model: {error}") from None
    return instance


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights.

    Raises:
        ValueError: they are not those that were written.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        checksum = (file.metadata() or {}).get(CHECKSUM)
    if checksum is not None and checksum != digest(tensors):
        raise ValueError("its checksum is another: bytes have changed since it was written; restore the file")
    return tensors


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write the state that resuming needs: tensors, numbers, strings and containers of them."""
    write_atomically(run / STATE, lambda file: torch.save(state, file))


def load_state(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the training state of a run without executing code.

    Raises:
        ValueError: there is none, or the file is truncated, damaged, foreign, or wants to execute code.
    """
    path = Path(run) / STATE
    if not path.is_file():
        raise ValueError(f"{run} has no {STATE} to resume from; train without --resume")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch reads entries without their checksums
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what a foreign file leads to is anyone's guess
        state = None
    if not isinstance(state, dict) or signatures.mismatch(state, State, STATE):
        raise ValueError(
            f"{path} is truncated, damaged or no training state of this package; restore it, or train again in another folder"
        )
    return state
