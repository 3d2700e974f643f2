"""The arguments of ``fit`` that a run's configuration states, so that ``--config`` repeats the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..train.checkpoint import CONFIG, read_config
from ..train.kept_rows import ROWS as KEPT

TRAINING = ("epochs", "batch_size", "learning_rate", "optimiser", "decay", "average", "patience", "keep", "seed")
"""Settings of training that are arguments of ``fit`` by the same name."""

ROWS = ("binarisation", "preprocessing", "classes", "labels")
"""What is said about the data under the same name."""


def stored_arguments(path: str) -> dict[str, Any]:
    """The arguments by name.

    The options of the model and of its objective are under ``stored_options`` and ``stored_objective``; an argument that the
    configuration does not state is left out.

    Raises:
        ValueError: the file is no configuration of a run, or one of a run from Python whose objective, data or optimiser the
            command line cannot name.
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
    if training.get("optimiser_options"):
        raise ValueError(f"{path} has options of the optimiser, which only dgm.fit takes; repeat it from Python")
    found = {name: training[name] for name in TRAINING if name in training}
    found |= {name: rows[name] for name in ROWS if name in rows} | {
        "data": str(run / KEPT) if rows["source"] == KEPT else rows["source"]
    }
    if "origin" not in config:  # a file is never run because a configuration says so
        found["model"] = config["model"]
    return found | {
        "stored_options": {name: value for name, value in config["options"].items() if name != "visible"},
        "stored_objective": config["objective_options"],
    }
