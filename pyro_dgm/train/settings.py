"""The settings of a run, its configuration, and checks of its folder and its devices."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import torch

from .. import __version__, processes, registry
from ..checks import check_choice, check_count, check_positive, check_seed, check_share, shown
from ..data import Dataset
from ..files import write_json
from ..inference.random_state import untouched
from ..models.shared.model import Model
from ..native import processor_name
from ..objectives.objective import Objective
from .checkpoint import CONFIG, FORMAT, digest, has_checkpoint, read_config
from .schedules import LINEAR, NAMES, bound_to_epochs

OPTIMISERS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}

FUSED = ("adam", "adamw")
"""The optimisers whose step torch does in one loop over all numbers, in a quarter of the time; plain SGD gains nothing."""

DEFAULTS: dict[str, Any] = {"keep": "last", "decay_options": {}, "clip": None, "precision": "float32"}
"""Values of settings that runs of earlier versions do not state."""


@dataclass
class Settings:
    """The settings that decide the course of training; a resumed run must agree on all but the number of epochs."""

    learning_rate: float
    optimiser: str
    decay: str | None
    batch_size: int
    epochs: int
    average: float | None
    patience: int | None
    seed: int
    keep: str = "last"
    optimiser_options: dict[str, Any] = field(default_factory=dict)
    decay_options: dict[str, Any] = field(default_factory=dict)
    clip: float | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        if self.decay is not None:
            check_choice("decay", self.decay, [LINEAR, *NAMES])
        self.epochs, self.batch_size = check_count("epochs", self.epochs), check_count("batch_size", self.batch_size)
        if self.patience is not None:
            self.patience = check_count("patience", self.patience, what="a number of epochs")
        check_choice("keep", self.keep, ("last", "best"))
        check_positive("learning_rate", self.learning_rate, "the first step size")
        self.learning_rate = float(self.learning_rate)
        if self.average is not None:
            check_share("average", self.average, "a decay such as 0.999")
            self.average = float(self.average)
        self.seed = check_seed(self.seed)
        if self.clip is not None:
            check_positive("clip", self.clip, "the largest norm of a step's gradients")
            self.clip = float(self.clip)
        check_choice("precision", self.precision, ("float32", "bfloat16"))
        for name, example in (("optimiser_options", "weight_decay"), ("decay_options", "gamma")):
            _check_stored(name, getattr(self, name), example)

    @property
    def keeps_best(self) -> bool:
        """Whether the finished model has the weights of the best epoch instead of the last."""
        return self.keep == "best" or self.patience is not None

    def make_optimiser(self, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
        """The optimiser of parameter groups, by torch's fused loops where there are any.

        Raises:
            ValueError: an option that the optimiser lacks or refuses.
        """
        if "lr" in self.optimiser_options:
            raise ValueError(f"optimiser_options got {self.optimiser_options}; the step size is learning_rate")
        chooses = self.optimiser_options.keys() & {"capturable", "differentiable", "foreach", "fused"}
        fused = self.optimiser in FUSED and device.type in ("cpu", "cuda") and not chooses
        options = {"lr": self.learning_rate, **({"fused": True} if fused else {}), **self.optimiser_options}
        try:
            optimiser: torch.optim.Optimizer = OPTIMISERS[self.optimiser](groups, **options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"optimiser_options got {self.optimiser_options}: {error}") from None
        return optimiser


def _check_stored(name: str, options: Any, example: str) -> None:
    """Refuse options that a run's configuration cannot hold."""
    if not isinstance(options, dict):
        raise ValueError(f"{name} got {shown(options)}; expected a dictionary, as {{'{example}': 1e-4}}")
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} got a value that a run cannot store ({error}); expected numbers, texts, booleans and tuples of them"
        ) from None


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
            warnings.warn(
                f"{folder} was trained on {name} {value!r}, not {here[name]!r}: sums may round differently, so that the end may "
                "differ from that of a run without interruption",
                stacklevel=3,
            )


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


def check_devices(name: str, devices: int | None) -> int:
    """The number of processes that train: ``devices``, or by default the number that a launcher has started.

    Raises:
        ValueError: there is no such device; fewer than one process, another number than the launcher's, or more than
            there are GPUs.
    """
    launched = processes.launched()
    if devices is not None:
        devices = check_count("devices", devices, what="the number of processes")
    if devices is not None and launched > 1 and devices != launched:
        raise ValueError(
            f"devices got {devices} in one of {launched} processes that were started already (by torchrun); expected "
            f"{launched}, or leave it out"
        )
    world = launched if devices is None else devices
    if not isinstance(name, str | torch.device):
        raise ValueError(f"device got {shown(name)}; expected a name such as 'cpu' or 'cuda'")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = check_device(name)
    if world > 1 and (device.type not in ("cpu", "cuda") or device.index is not None):
        raise ValueError(
            f"device got {name!r} for {world} processes; expected cpu or cuda, of which each takes its own"
        )
    on_machine = int(os.environ.get("LOCAL_WORLD_SIZE", world)) if launched > 1 else world
    if device.type == "cuda" and world > 1 and on_machine > torch.cuda.device_count():
        raise ValueError(
            f"device 'cuda' got {on_machine} processes for {torch.cuda.device_count()} GPUs on this machine; expected at most "
            "one process per GPU"
        )
    check_device(device)
    return world


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


def check_device(name: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: no such device, one that is absent, or one whose numbers cannot be read back (``meta``).
    """
    try:
        device = torch.device(name)
        float(torch.zeros((), device=device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {str(name)!r} cannot be used here ({reason}); use cpu, or cuda or mps where there is one"
        ) from None
    return device
