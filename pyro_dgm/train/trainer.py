"""The training loop, the same for every model: the objective gives the loss and the model its progress."""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import processes
from ..data import Dataset
from ..data.stored import spread_rows
from ..energy import NotFinite
from ..inference.light import checked_rows
from ..models.shared.model import Model
from ..nets.layers import running_statistics
from ..nets.modes import evaluating, training
from ..nets.rounding import networks, rounded_products
from ..objectives.objective import Objective
from ..progress import Bar, bar
from .averages import Averages
from .best import Best, monitored
from .callbacks import Progress, call
from .checkpoint import save_weights
from .divergence import Watch, of_parameters
from .loggers import logged
from .progress_state import save_progress
from .schedules import Schedule
from .settings import Settings
from .steps import CLOCKS, Steps, own_share


@dataclass
class Run:
    """A finished training run.

    Attributes:
        model: the trained model, with averaged weights if ``average`` was given.
        history: one dictionary per epoch: epoch, loss, the model's progress figures, seconds and the processor's seconds (of
            all threads; other programs on the machine add nothing to them).
        out: the folder of the run, or None.
        epoch: the epoch of the model's weights, counted from 1: the last one, or the best one if that is kept.
    """

    model: Any
    history: list[dict[str, float]]
    out: Path | None
    epoch: int


class Trainer:
    """The state of one run."""

    def __init__(
        self,
        model: Model,
        data: Dataset,
        objective: Objective,
        settings: Settings,
        folder: Path | None,
        device: str,
        loggers: list[Any],
        progress: bool,
        callbacks: list[Any],
        complete: bool,
    ) -> None:
        self.device, self.complete = processes.device(device), complete
        first = processes.first()
        parameters = {"model": type(model).__name__, "options": model.options(), "objective": objective.options()}
        self.log = logged(loggers if first else [], folder, parameters | {"training": vars(settings)})
        self.callbacks = callbacks if first else []
        self.model = model.to(self.device)
        train, valid, test = (split.to(self.device) for split in (data.train, data.valid, data.test))
        self.data = Dataset(data.name, train, valid, test, data.shape, data.redraw)
        self.objective, self.settings, self.folder = objective, settings, folder
        self.progress = progress and processes.first()
        for module in objective.owned().values():
            module.to(self.device)
        self.objective.attach(self.model)
        groups = objective.all_groups(self.model)
        self.optimiser = settings.make_optimiser(groups, self.device)
        for group in self.optimiser.param_groups:
            group["lr"] *= group.get("rate", 1.0)
        # Statistics of batches belong to the weights that made them.
        self.averages = Averages([*self.model.parameters(), *running_statistics(self.model)], settings.average)
        trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        if not any(parameter.requires_grad for parameter in trained):
            raise ValueError(
                f"every parameter of {type(model).__name__} is frozen, so that there is nothing to train; call "
                "requires_grad_(True) on some"
            )
        self.history: list[dict[str, float]] = []
        self.best = Best(settings)
        self.ended = False
        self.steps = math.ceil(len(data.train) / settings.batch_size)
        self.schedule = Schedule(settings.decay, settings.decay_options, self.optimiser, self.steps, settings.epochs)
        rounds = settings.precision == "bfloat16"
        self.rounded = [n for m in (model, *objective.owned().values()) for n in networks(m)] if rounds else []
        self.watch = Watch(self.model, self.data, trained, settings.learning_rate)
        self.stepper = Steps(self.optimiser, trained, self.watch, settings.clip)

    def run(self, first: int) -> Run:
        """Train from the beginning, or on from the number of epochs that ``restore_progress`` returned."""
        if first == 0:
            self.averages.begin()
        self.watch.moved, self.watch.kept = first > 0, self.folder if first > 0 else None
        total = self.steps * self.settings.epochs
        with (
            self.log as write,
            bar(total, "steps", initial=first * self.steps, show=self.progress, parts=True, unit="step") as shows,
        ):
            for epoch in range(first, self.settings.epochs):
                if self.ended or self.best.patience_is_over():
                    break
                start = time.perf_counter(), time.process_time()
                with contextlib.ExitStack() as modes:
                    for module in (self.model, *self.objective.owned().values()):
                        modes.enter_context(training(module))
                    modes.enter_context(rounded_products(self.rounded))
                    modes.enter_context(checked_rows(self.complete))
                    losses = self._epoch(epoch, shows)
                busy = sum(processes.collect(time.process_time() - start[1]))
                clocks = {"seconds": time.perf_counter() - start[0], "cpu_seconds": busy}
                improved = self._report(epoch, losses, clocks, shows)
                write(self.history)
                self._checkpoint(epoch + 1)
                self.ended = self._ended_by_callbacks(improved)
                if self.ended:
                    self._checkpoint(epoch + 1)
        self.averages.stay()
        if self.best.weights is not None:
            self.model.load_state_dict(self.best.weights)
        if self.folder is not None and processes.first():
            save_weights(self.folder, self.model.state_dict())
        processes.wait()
        epoch = len(self.history) if self.best.weights is None else self.best.epoch
        return Run(self.model, self.history, self.folder, epoch)

    def _epoch(self, epoch: int, shows: Bar) -> dict[str, float]:
        """Train on all batches; returns the mean loss of every turn by its name."""
        settings = self.settings
        totals: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        self.objective.schedule(epoch / max(settings.epochs - 1, 1))
        for number, x in enumerate(self.data.batches(epoch, settings.batch_size, settings.seed)):
            self.schedule.before_step(epoch * self.steps + number)
            rows, weight = own_share(x)
            for turn in self.objective.turns(rows) if len(x) >= self.objective.fewest_rows else ():
                totals[turn.name] += self.stepper.take(turn, weight, epoch, number) * len(x)
                counts[turn.name] += len(x)
            self.schedule.after_step(epoch * self.steps + number)
            self.averages.step()
            shows.advance()
        if not totals:
            raise ValueError(f"{type(self.objective).__name__} took no turn; expected at least one per batch")
        return {name: total / counts[name] for name, total in totals.items()}

    def _ended_by_callbacks(self, improved: bool) -> bool:
        """Call the callbacks of an epoch's end; whether one of them ends the training."""
        ends = False
        if self.callbacks:
            row = self.history[-1]
            progress = Progress(self.model, int(row["epoch"]), dict(row), self.best.figure, self.folder)
            with self.averages.in_place(), evaluating(self.model):
                ends = call(self.callbacks, "on_epoch_end", progress)
                if improved:
                    call(self.callbacks, "on_improvement", progress)
                if self.folder is not None:
                    call(self.callbacks, "on_checkpoint", progress)
        return bool(processes.from_first(ends))

    def _report(self, epoch: int, losses: dict[str, float], clocks: dict[str, float], shows: Bar) -> bool:
        """Add an epoch's row to the history and the progress bar; whether it is the best so far."""
        if not self.watch.finite():
            self.watch.stop(epoch, self.steps - 1, math.nan)
        rates = self.schedule.figures()
        valid = spread_rows(self.data.valid.x)
        train = valid if self.data.redraw is not None else self.data.train.x
        try:
            with self.averages.in_place():
                with evaluating(self.model):
                    with processes.one_stream():
                        self.model.settle(valid)
                    figures, clocks = processes.from_first((self.model.progress(train, valid), clocks))
                improved = self._judge(epoch, losses, figures)
        except NotFinite as error:
            self.watch.stop(epoch, self.steps - 1, math.nan, error)
        except ValueError as error:
            if not of_parameters(error):
                raise
            self.watch.stop(epoch, self.steps - 1, math.nan, error)
        if clash := sorted(figures.keys() & {"epoch", "learning_rate", *CLOCKS, *losses}):
            raise ValueError(
                f"the model's progress has figures called {clash}, which name other columns of the history"
            )
        row = {"epoch": epoch + 1, **losses, **figures, **rates, **clocks}
        not_finite = [value for value in row.values() if not math.isfinite(value)]
        if not_finite:
            self.watch.stop(epoch, self.steps - 1, not_finite[0])
        self.history.append(row)
        told = {k: f"{v:.4g}" for k, v in row.items() if k != "epoch" and k not in clocks}
        shows.report(f"epoch {epoch + 1} of {self.settings.epochs}", told)
        return improved

    def _judge(self, epoch: int, losses: dict[str, float], figures: dict[str, float]) -> bool:
        """Whether the weights are the best so far; the schedule looks at the same figure."""
        figure = monitored(losses, figures) if self.objective.judges() else None
        self.schedule.after_epoch(figure)
        return figure is not None and self.best.judge(epoch, figure, self.model)

    def _checkpoint(self, epoch: int) -> None:
        """Write the training state of all processes, and the weights that the run would have if it ended now."""
        if self.folder is None:
            return
        save_progress(self, self.folder, epoch)
        self.watch.kept = self.folder
        if processes.first():
            with self.averages.in_place():
                save_weights(self.folder, self.model.state_dict() if self.best.weights is None else self.best.weights)
