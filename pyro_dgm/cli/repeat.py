"""The arguments of ``fit`` that a run's configuration states, so that ``--config`` repeats the run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from .. import signatures
from ..train.checkpoint import CONFIG, read_config
from ..train.kept_rows import ROWS as KEPT

TRAINING = (
    "epochs", "batch_size", "learning_rate", "optimiser", "decay", "average", "patience", "keep", "seed", "clip", "precision",
)  # fmt: skip
"""Settings of training that are arguments of ``fit`` by the same name."""

ROWS = ("binarisation", "preprocessing", "classes", "labels")
"""What is said about the data under the same name."""


def stored_arguments(path: str) -> dict[str, Any]:
    """The arguments by name.

    The options of the model and of its objective are under ``stored_options`` and ``stored_objective``; the folder of rows that
    a run from Python kept, and what it says of them, are under ``stored_rows``; under ``stored_seed`` are the data and their seed
    where it is another than that of the training; an argument that the configuration does not state is left out.

    Raises:
        ValueError: the file is no configuration of a run, or one of a run from Python whose objective or data the command
            line cannot name.
    """
    file = Path(path)
    run = file.parent if file.name == CONFIG else file
    config = read_config(run)
    training, rows = config.get("training", {}), config.get("data", {})
    if "source" not in rows:
        raise ValueError(
            f"{path} does not say where its data came from, so that the run cannot be repeated; use --data"
        )
    if config.get("objective_options") is None:
        raise ValueError(
            f"{path} is of a run from Python, whose objective has no name on the command line; repeat it there"
        )
    found = {name: training[name] for name in TRAINING if name in training}
    found |= {name: rows[name] for name in ROWS if name in rows} | {
        "data": str(run / KEPT) if rows["source"] == KEPT else rows["source"]
    }
    if "origin" not in config:  # a file is never run because a configuration says so
        found["model"] = config["model"]
    if rows["source"] == KEPT:
        found["stored_rows"] = str(run), rows
    if "seed" in rows and rows["seed"] != training.get("seed"):
        found["stored_seed"] = found["data"], rows["seed"]
    return found | {
        "stored_options": {name: value for name, value in config["options"].items() if name != "visible"},
        "stored_objective": config["objective_options"],
        **{
            f"stored_{name}": (training.get(name), training.get(f"{name}_options", {}))
            for name in ("decay", "optimiser")
        },
    }


def kept_by(options: Namespace) -> tuple[str, dict[str, Any]] | None:
    """The run from Python whose kept rows ``fit`` trains on again, and what is said of them there; None for other data."""
    stored = getattr(options, "stored_rows", None)
    return stored if stored is not None and options.data == str(Path(stored[0]) / KEPT) else None


def seed_of_data(options: Namespace) -> int:
    """The seed by which bits are drawn: ``--seed``, but that of a run's data where it was another than its training's."""
    data, seed = getattr(options, "stored_seed", (None, 0))
    return int(seed) if options.data == data else int(options.seed)


def options_of_torch(options: Namespace) -> dict[str, Any]:
    """The arguments of optimiser and schedule that a command line states, over those of the configuration that it repeats.

    Raises:
        ValueError: an argument that they do not have.
    """
    from torch.optim import lr_scheduler

    from ..train.settings import OPTIMISERS

    owners = {"optimiser": OPTIMISERS.get(options.optimiser), "decay": getattr(lr_scheduler, options.decay or "", None)}
    found = {}
    for name, owner in owners.items():
        pairs, chosen = getattr(options, f"{name}_option"), getattr(options, name)
        before, values = getattr(options, f"stored_{name}", (None, {}))
        if pairs and owner is None:
            raise ValueError(
                f"--{name}-option got {pairs[0]!r}, but --{name} is {chosen or 'none'}, which has no options"
            )
        read = signatures.settings(owner, pairs, f"--{name}-option", chosen) if pairs and owner is not None else {}
        found[f"{name}_options"] = (values if before == chosen else {}) | read
    return found
