"""The life of a process that another one started to train along."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
import threading
from pathlib import Path

import torch

from .trainer import TrainingDiverged, to_device

PAYLOAD, RESULT = "payload.pickle", "result.pickle"
"""What is sent to a process, and what the first of them sends back."""
KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (ValueError, OSError, ConnectionError, TrainingDiverged)
}


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def main(folder: Path) -> int:
    """Train on what was sent, and say what went wrong; the exit status."""
    from .. import processes, registry

    threading.Thread(target=_end_with_parent, daemon=True).start()
    rank = int(os.environ["RANK"])
    try:
        try:
            origin, arguments = pickle.loads((folder / PAYLOAD).read_bytes())
            if origin is not None and origin.rpartition(":")[0].endswith(".py"):
                registry.model(origin)  # so that the class is found under the name it has in the first process
            fit, model, data, objective, options = pickle.loads(arguments)
        except (AttributeError, ImportError) as error:
            raise ValueError(
                f"a new process cannot find what it was sent ({error}); classes of a script or notebook belong into a module, "
                "or run the script under torchrun"
            ) from None
        run = fit(model, data, objective=objective, **options)
        if rank == 0:
            state = {name: value.cpu() for name, value in run.model.state_dict().items()}
            objective_state = to_device(objective.state_dict(), torch.device("cpu"))
            (folder / RESULT).write_bytes(pickle.dumps((state, objective_state, run.history, run.epoch)))
        processes.wait()
        processes.leave()
    except (ValueError, OSError, TrainingDiverged) as error:
        kind = next(name for name, cls in reversed(KINDS.items()) if isinstance(error, cls))
        with contextlib.suppress(OSError):
            (folder / f"error{rank}.json").write_text(json.dumps([kind, str(error)]), "utf-8")
        return 1
    return 0


def run() -> None:
    """The whole life of a started process."""
    sys.exit(main(Path(sys.argv[1])))
