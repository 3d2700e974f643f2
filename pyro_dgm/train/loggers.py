"""Where the figures of a training go: a table, TensorBoard, or any object of Lightning's protocol of loggers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..checks import check_choice, shown
from ..extras import need
from ..files import write_table

LOGS = "logs"
"""The folder in a run's with the history of its training."""

KINDS = ("csv", "tensorboard")

History = list[dict[str, float]]
Write = Callable[[History], None]
"""Takes the history after every epoch."""


def check_logger(logger: Any) -> list[Any]:
    """Loggers as a list of names and objects.

    Raises:
        ValueError: an unknown name, or an object without ``log_metrics``.
        MissingExtra: the package of a name is not installed.
    """
    loggers = list(logger) if isinstance(logger, Sequence) and not isinstance(logger, str) else [logger]
    for one in loggers:
        if isinstance(one, str):
            check_choice("logger", one, KINDS)
            if one == "tensorboard":
                _tensorboard()
        elif isinstance(one, type) or not callable(getattr(one, "log_metrics", None)):
            raise ValueError(
                f"logger got {shown(one)}; expected {' or '.join(map(repr, KINDS))}, or an object with "
                "log_metrics(metrics, step), as Lightning's loggers are"
            )
    return loggers


def _tensorboard() -> Any:
    need("logger='tensorboard'", "tensorboard")
    import torch.utils.tensorboard

    return torch.utils.tensorboard


@contextlib.contextmanager
def logged(loggers: list[Any], folder: Path | None, parameters: dict[str, Any]) -> Iterator[Write]:
    """A block in which figures are logged.

    Args:
        loggers: names and objects, as ``check_logger`` gives them.
        folder: the run's folder, in which those that are named write; None if there is none, and they do not.
        parameters: what ``log_hyperparams`` gets, as plain data.
    """
    with contextlib.ExitStack() as stack:
        writers: list[Write] = []
        for one in loggers:
            if not isinstance(one, str):
                writers.append(stack.enter_context(_of_protocol(one, parameters)))
            elif folder is not None and one == "csv":
                table = folder / LOGS / "metrics.csv"
                writers.append(lambda history, table=table: write_table(table, history))  # type: ignore[misc]
            elif folder is not None:
                writers.append(stack.enter_context(_events(folder / LOGS)))

        def write(history: History) -> None:
            for writer in writers:
                writer(history)

        yield write


@contextlib.contextmanager
def _of_protocol(logger: Any, parameters: dict[str, Any]) -> Iterator[Write]:
    """An object of Lightning's protocol; of its methods ``log_metrics`` alone must be there."""

    def call(method: str, *arguments: Any) -> None:
        if callable(found := getattr(logger, method, None)):
            found(*arguments)

    def write(history: History) -> None:
        figures = {name: value for name, value in history[-1].items() if name != "epoch"}
        logger.log_metrics(figures, int(history[-1]["epoch"]))
        call("save")

    call("log_hyperparams", json.loads(json.dumps(parameters)))
    status = "failed"
    try:
        yield write
        status = "success"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        call("finalize", status)


@contextlib.contextmanager
def _events(folder: Path) -> Iterator[Write]:
    """TensorBoard's event files; a resumed run begins a new one."""
    with _tensorboard().SummaryWriter(folder) as writer:

        def write(history: History) -> None:
            for name, value in history[-1].items():
                writer.add_scalar(name, value, int(history[-1]["epoch"]))
            writer.flush()

        yield write
