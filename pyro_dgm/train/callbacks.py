"""What users have done at the end of an epoch, at an improvement and at a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..checks import shown
from ..inference.random_state import restored


class Progress(NamedTuple):
    """Where a training is when a callback is called.

    Attributes:
        model: the model, in evaluation mode and with averaged weights if there is an average.
        epoch: the epochs that are done.
        figures: the last epoch's row of the history.
        best: the best monitored figure so far.
        out: the folder of the run, or None.
    """

    model: Any
    epoch: int
    figures: dict[str, float]
    best: float
    out: Path | None


class Callback:
    """What is done in the course of ``fit``: subclass it and define the events that matter.

    Whatever a callback draws, the random states are as before when it returns, so that training is the same with callbacks and
    without. Of several processes the first calls them.

    Example:
        >>> import pyro_dgm as dgm
        >>> class Losses(dgm.Callback):
        ...     def on_epoch_end(self, progress):
        ...         self.last = progress.epoch, sorted(progress.figures)[:3]
        >>> losses = Losses()
        >>> rbm, x = dgm.RBM.example()
        >>> run = dgm.fit(rbm, x, epochs=2, callbacks=[losses], progress=False)
        >>> losses.last
        (2, ['cpu_seconds', 'epoch', 'free_energy_gap'])
    """

    def on_epoch_end(self, progress: Progress) -> bool | None:
        """An epoch is over, and is in the history; True ends the training."""
        return None

    def on_improvement(self, progress: Progress) -> None:
        """The monitored figure is the best so far."""
        return None

    def on_checkpoint(self, progress: Progress) -> None:
        """Weights and training state were written to ``progress.out``."""
        return None


EVENTS = ("on_epoch_end", "on_improvement", "on_checkpoint")


def check_callbacks(callbacks: Any) -> list[Any]:
    """Callbacks as objects that have all events; a function is called at the end of an epoch.

    Raises:
        ValueError: something that is neither a function nor has an event; a class in place of an object.
    """
    if callbacks is None:
        return []
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise ValueError(f"callbacks got {shown(callbacks)}; expected a list of them")
    return [_checked(callback) for callback in callbacks]


def _checked(callback: Any) -> Any:
    if isinstance(callback, type):
        raise ValueError(f"callbacks got the class {callback.__name__}; call it to make an object")
    if any(callable(getattr(callback, event, None)) for event in EVENTS):
        return callback
    if callable(callback):
        return _Function(callback)
    raise ValueError(
        f"callbacks got {shown(callback)}; expected functions, or objects with {', '.join(EVENTS[:-1])} or {EVENTS[-1]}, as "
        "dgm.Callback has them"
    )


class _Function(Callback):
    """A function as a callback."""

    def __init__(self, function: Callable[[Progress], bool | None]) -> None:
        self.function = function

    def on_epoch_end(self, progress: Progress) -> bool | None:
        return self.function(progress)


def call(callbacks: list[Any], event: str, progress: Progress) -> bool:
    """Call the callbacks that know an event; whether one of them ends the training."""
    ends = False
    with restored():
        for callback in callbacks:
            answer = getattr(callback, event, lambda progress: None)(progress)
            ends = ends or _is_true(answer)
    return ends


def _is_true(answer: Any) -> bool:
    """Whether an answer is True, NumPy's and torch's among them; numbers are no answers."""
    kind = str(getattr(answer, "dtype", type(answer).__name__)).removeprefix("torch.")
    return kind == "bool" and bool(answer)
