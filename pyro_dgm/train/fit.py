"""``fit``, which checks all arguments and then trains."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro

from .. import processes
from ..calls import says_what_it_takes, warn_caller
from ..checks import shown
from ..data.rows import as_dataset
from ..data.stored import spread_rows
from ..files import locked, remove_drafts, write_json
from ..inference.random_state import restored, seeded
from ..inference.registration import unregistered
from ..models.shared.model import Model
from ..models.shared.rows import filled_by_others
from ..nets.modes import evaluating, frozen_stay
from ..objectives.objective import Objective
from .callbacks import check_callbacks
from .checkpoint import CONFIG, load_state, read_config
from .configuration import check_rebuilt, describe, write_config
from .devices import check_devices
from .kept_rows import ROWS, keep_rows, origin_of
from .launch import fit_in_processes
from .loggers import check_logger
from .progress_state import restore_progress
from .resumption import check_folder, check_state
from .settings import Settings
from .suitability import check_data, check_monitored, check_rounding, warn_of_whole_columns
from .trainer import Run, Trainer


@says_what_it_takes
@unregistered()
def fit(
    model: Model,
    data: Any,
    *,
    objective: Objective | None = None,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    optimiser: str = "adam",
    optimiser_options: dict[str, Any] | None = None,
    decay: str | None = None,
    average: float | None = None,
    patience: int | None = None,
    keep: str = "last",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str = "cpu",
    devices: int | None = None,
    logger: Any = "csv",
    progress: bool = True,
    source: dict[str, Any] | None = None,
    decay_options: dict[str, Any] | None = None,
    clip: float | None = None,
    precision: str = "float32",
    callbacks: Any = None,
) -> Run:
    r"""Train a model and, with ``out``, write a run that can be resumed, evaluated and sampled.

    The order of the rows depends on (seed, epoch) alone, and checkpoints hold the optimiser, the persistent chains and the
    random states, so that a run killed at any moment and resumed ends bit-identical to one that was not. Every epoch
    reports figures that tell whether training works (for Boltzmann machines the pseudo log-likelihood and the free-energy
    gap, for latent-variable models the validation ELBO). The loss of a Boltzmann machine follows log Z roughly (``dgm.PCD``) or
    not at all (``dgm.CD``), except where its states are few: it is no likelihood.

    Args:
        model: the model, trained in place.
        data: a dataset; its name or path, as ``dgm.data.load`` takes them; or rows, of which the last tenth is then held out for
            validation: a ``Split``, a tensor, a NumPy array, a sparse matrix, a DataFrame (texts become columns of zeros and
            ones), or one of torch's datasets or loaders (whose dataset is taken; the batches are those of ``batch_size``).
        objective: the criterion; by default the model's own.
        epochs: passes over the training rows.
        batch_size: rows per step.
        learning_rate: the first step size.
        optimiser: ``"adam"``, ``"adamw"`` or ``"sgd"``.
        optimiser_options: other arguments of the optimiser.
        decay: ``"linear"`` lets the step size fall to zero at the last step; or the name of one of torch's schedules, as
            ``"CosineAnnealingLR"`` or ``"ReduceLROnPlateau"`` (by the monitored figure). ``"OneCycleLR"`` and ``"CyclicLR"``
            change it after every batch, the others after every epoch.
        average: the decay of a moving average of the weights; the finished model has the averaged weights.
        patience: the number of epochs without improvement after which training stops; the model then has the weights of the
            best epoch. The monitored figure is the first ``valid_`` one of the model's progress, else the loss.
        keep: ``"last"``, or ``"best"`` for the weights of the epoch with the best monitored figure.
        seed: seed of Pyro's random state and of the batches.
        out: a folder for configuration, weights, training state and logs; it must not hold another run.
        resume: go on with the run in ``out``.
        device: the device to train on.
        devices: the number of processes that train together, each on a part of every batch and, with ``device="cuda"``, on its
            own GPU. If there are several, they are started on this machine, and model, data and objective are sent to them.
            Under ``torchrun`` nothing is started: its processes are found from the environment.
        logger: ``"csv"`` or ``"tensorboard"`` (needs the tensorboard package), used with ``out``; an object of Lightning's
            protocol, which has ``log_metrics(metrics, step)`` and may have ``log_hyperparams``, ``save`` and ``finalize``; or
            several of them in a list.
        progress: show a progress bar; where standard error is a file, a line of an epoch twice a minute at most.
        source: the origin of the data, stored in the configuration. By default what ``dgm.data.load`` was asked for; rows that
            were not loaded are kept in the run's folder (up to 256 MB), where ``pyro-dgm evaluate`` finds them; ``{}`` keeps
            none.
        decay_options: the schedule's own arguments, as ``{"step_size": 10, "gamma": 0.5}``; ``T_max``, ``total_steps`` and
            ``max_lr`` follow from the training where they are not given. One number for ``max_lr``, ``base_lr`` or ``min_lr`` is
            that of parameters that move at ``learning_rate``; those of a criterion that move at a multiple of it have that
            multiple. ``eta_min`` is the same for all, as torch has it.
        clip: the largest norm of the gradients of a step, over all parameters that are trained together.
        precision: ``"bfloat16"`` computes the products of networks in half precision, and everything else in single; only for
            models whose networks allow it, and not where energies are compared.
        callbacks: functions that take a ``Progress`` at every epoch's end (True ends the training), or objects with the methods
            of ``dgm.Callback``.

    Raises:
        ValueError: data or options that cannot work; nothing is started or overwritten.
        TrainingDiverged: the loss stopped being finite or sensible.
        OSError: one of the processes was lost; the last checkpoint is kept.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> run = dgm.fit(vae, x, epochs=2, progress=False)
        >>> sorted(run.history[-1])
        ['cpu_seconds', 'epoch', 'loss', 'seconds', 'valid_elbo']
    """
    if not isinstance(model, Model):
        hint = "; call it to make an instance" if isinstance(model, type) else ""
        if callable(model) and not hint:
            hint = (
                ". A Pyro program trains under Pyro's own SVI (around energy-based sites put dgm.negative_phase), or here as the "
                "generate and infer of a LatentVariableModel"
            )
        raise ValueError(f"model got {shown(model)}; expected a model of pyro_dgm{hint}")
    if objective is not None and not isinstance(objective, Objective):
        raise ValueError(
            f"objective got {shown(objective)}; expected an objective, as model.objective(...) or "
            "dgm.NegativePhaseObjective(dgm.PCD()) makes one"
        )
    settings = Settings(
        learning_rate,
        optimiser,
        decay,
        batch_size,
        epochs,
        average,
        patience,
        seed,
        keep,
        {} if optimiser_options is None else optimiser_options,
        {} if decay_options is None else decay_options,
        clip,
        precision,
    )
    loggers, checked_callbacks = check_logger(logger), check_callbacks(callbacks)
    if objective is None:
        with seeded(settings.seed):  # some have networks of their own
            objective = model.objective()
            objective.arguments = {}
    data = as_dataset(data)
    source = origin_of(data) if source is None else source
    dtype = next(model.parameters()).dtype
    origin = data.origin
    data = replace(data, train=data.train.to(dtype), valid=data.valid.to(dtype), test=data.test.to(dtype))
    data = data if origin is None else data.from_origin(origin)
    complete = check_data(model, objective, data)
    with evaluating(model):
        model.check_programs(data.train.x[:2].to(next(model.parameters()).device))
    world = check_devices(device, devices)
    if settings.precision != "float32":
        check_rounding(model, device)
    check_monitored(model, data, objective, settings)
    objective.check_fit(model, len(data.train), settings.batch_size, settings.epochs)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_rebuilt(model)
    described = describe(data, source)

    def checkpoint() -> dict[str, Any] | None:
        """The state to go on from, None to begin; refuses a folder that does not fit."""
        if not check_folder(folder, resume, model, objective, settings, described) or folder is None:
            return None
        state = load_state(folder)
        check_state(folder, state, world, settings.epochs)
        return state

    state = checkpoint()
    if world > processes.launched():
        return fit_in_processes(
            fit, world, model, data, objective, **vars(settings), out=out, resume=resume, device=device, logger=logger,
            progress=progress, source=source, callbacks=callbacks,
        )  # fmt: skip
    if processes.first():
        if reason := objective.ill_with(settings.optimiser):
            warn_caller(f"optimiser={settings.optimiser!r} trains badly here: {reason}")
        warn_of_whole_columns(model, data)
    processes.join(device)
    with processes.one_message(), restored():
        trainer = Trainer(
            model, data, objective, settings, folder, device, loggers, progress, checked_callbacks, complete
        )
        with _locked(folder):
            if folder is not None:
                state = checkpoint()  # again: a process that held the lock may have trained meanwhile
            # All have looked into the folder before the first writes there: none may meet files of a faster one.
            processes.wait()
            writes = folder if processes.first() else None
            if writes is not None:
                remove_drafts(writes)
            if state is None:
                pyro.set_rng_seed(settings.seed)
                if model.fresh:
                    with frozen_stay(model):
                        model.initialise(filled_by_others(spread_rows(data.train.x).to(trainer.device)))
                if processes.rank():
                    pyro.set_rng_seed(processes.own_seed(settings.seed))
            first = 0 if state is None else restore_progress(trainer, state)
            for module in (model, *objective.owned().values()):
                processes.agree(module)
            if writes is not None and state is None:
                if source is not None and source.get("source") == ROWS:
                    keep_rows(writes, data)
                write_config(writes, model, objective, settings, described)
            elif writes is not None:
                write_json(writes / CONFIG, {**read_config(writes), "training": vars(settings)})
            model.fresh = False
            return trainer.run(first)


@contextlib.contextmanager
def _locked(folder: Path | None) -> Iterator[None]:
    """A block in which no other run may train in the folder; where it is taken, all processes of this run say so."""
    with contextlib.ExitStack() as stack:
        refusal: Exception | None = None
        if folder is not None and processes.first():
            try:
                stack.enter_context(locked(folder))
            except (ValueError, OSError) as error:
                refusal = error
        refusal = processes.from_first(refusal)
        if refusal is not None:
            raise refusal
        yield
