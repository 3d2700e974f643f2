"""The program of a process that another one starts to share in a training run."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

import torch

from .divergence import TrainingDiverged
from .progress_state import to_device

PAYLOAD, RESULT, MEETING = "payload.pickle", "result.pickle", "meeting"
"""Files: the arguments that are sent to every process, the result that the first of them sends back, and where they meet."""

KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (ValueError, OSError, ConnectionError, TrainingDiverged)
}
"""The errors that a process reports, by name; a subclass stands after its base."""


def _end_with_parent(folder: str) -> None:
    """Wait until standard input is closed, as happens when the parent process ends; then remove its folder and end."""
    os.read(0, 1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main(folder: Path) -> int:
    """Train with the arguments that were sent; report an error in a file. Returns the exit status."""
    from .. import processes, registry

    threading.Thread(target=_end_with_parent, args=(str(folder),), daemon=True).start()
    rank = int(os.environ["RANK"])
    try:
        try:
            origin, arguments = pickle.loads((folder / PAYLOAD).read_bytes())
            if origin is not None and origin.rpartition(":")[0].endswith(".py"):
                registry.model(origin)  # so that the class is found under the name it has in the first process
            fit, model, data, objective, options = pickle.loads(arguments)
        except (AttributeError, ImportError) as error:
            raise ValueError(
                f"a new process cannot find what it was sent ({error}); move the classes of a script or notebook to a module, "
                "or run the script under torchrun"
            ) from None
        processes.join(options["device"], folder / MEETING)
        run = fit(model, data, objective=objective, **options)
        if rank == 0:
            state = {name: value.cpu() for name, value in run.model.state_dict().items()}
            objective_state = to_device((objective.state_dict(), objective.owned_state()), torch.device("cpu"))
            (folder / RESULT).write_bytes(pickle.dumps((state, objective_state, run.history, run.epoch)))
        processes.wait()
        processes.leave()
    except (ValueError, OSError, TrainingDiverged) as error:
        kind = next(name for name, cls in reversed(KINDS.items()) if isinstance(error, cls))
        with contextlib.suppress(OSError):
            (folder / f"error{rank}.json").write_text(json.dumps([kind, str(error)]), "utf-8")
        return 1
    return 0


def run() -> NoReturn:
    """Run the program of a started process, whose folder is the first command-line argument."""
    from .. import processes

    status = 1
    try:
        status = main(Path(sys.argv[1]))
    except BaseException:  # the traceback is all that is left to say
        traceback.print_exc()
    processes.end(status)
