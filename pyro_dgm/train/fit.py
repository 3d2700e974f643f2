"""The training loop: one for every model, since the objective knows the loss and the model its progress."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import __version__
from ..data import Dataset, Space, Split
from ..models.model import Model
from ..objectives.objective import Objective
from .checkpoint import CONFIG, FORMAT, load_state, read_config, save_state, save_weights, write_json

OPTIMISERS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


class TrainingDiverged(RuntimeError):
    """The loss became NaN, infinite, or absurdly large; the last good checkpoint is kept."""


@dataclass
class Run:
    """A finished training run.

    Attributes:
        model: the trained model (with averaged weights, where averaging was asked for).
        history: one dictionary an epoch: epoch, seconds, loss and the model's progress figures.
        out: the folder it was written to, or None.
    """

    model: Any
    history: list[dict[str, float]]
    out: Path | None


@dataclass
class _Settings:
    """Everything that decides the course of training; a resumed run must agree on all but the number of epochs."""

    learning_rate: float
    optimiser: str
    decay: str | None
    batch_size: int
    epochs: int
    average: float | None
    patience: int | None
    seed: int
    optimiser_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser got {self.optimiser!r}; expected one of {', '.join(OPTIMISERS)}")
        if self.decay not in (None, "linear"):
            raise ValueError(f"decay got {self.decay!r}; expected None or 'linear'")
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            if value < 1:
                raise ValueError(f"{name} got {value}; expected at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate got {self.learning_rate}; expected a positive number")
        if self.average is not None and not 0 < self.average < 1:
            raise ValueError(f"average got {self.average}; expected a decay between 0 and 1, such as 0.999")


def fit(
    model: Model,
    data: Dataset | Split | Tensor,
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
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str = "cpu",
    logger: str = "csv",
    progress: bool = True,
    source: dict[str, Any] | None = None,
) -> Run:
    r"""Train a model and, with ``out``, leave a run that can be resumed, evaluated and sampled.

    Batches come from a permutation of (seed, epoch), and checkpoints hold the optimiser, the persistent chains and the
    random states, so that a run killed at any moment and resumed ends bit-identical to one that was not. Every epoch
    shows what tells whether training works (for Boltzmann machines the pseudo log-likelihood and the free-energy gap,
    for latent-variable models the validation ELBO).

    Args:
        model: what to train, in place.
        data: a dataset, or rows (a tenth of them is then held out for validation).
        objective: the criterion; by default the model's own.
        epochs: passes over the training rows.
        batch_size: rows a step.
        learning_rate: the first step size.
        optimiser: ``"adam"``, ``"adamw"`` or ``"sgd"``.
        optimiser_options: further arguments of the optimiser.
        decay: ``"linear"`` lets the step size fall to zero at the last step.
        average: the decay of a moving average of the weights, which the finished model holds.
        patience: stop after so many epochs without improvement of the model's monitored figure.
        seed: seeds Pyro's random state and the batches.
        out: a folder for configuration, weights, training state and logs; it must not hold another run.
        resume: go on from ``out``.
        device: where to train.
        logger: ``"csv"`` or ``"tensorboard"`` (needs the tensorboard package); used with ``out``.
        progress: show a progress bar.
        source: where the data came from, kept in the configuration.

    Raises:
        ValueError: data or options that cannot work; nothing is started or overwritten.
        TrainingDiverged: the loss stopped being finite or sensible.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> run = dgm.fit(vae, x, epochs=2, progress=False)
        >>> sorted(run.history[-1])
        ['epoch', 'loss', 'seconds', 'valid_elbo']
    """
    settings = _Settings(
        learning_rate, optimiser, decay, batch_size, epochs, average, patience, seed, optimiser_options or {}
    )
    data = _as_dataset(data)
    for name in ("train", "valid"):
        split: Split = getattr(data, name)
        if name == "valid" or data.redraw is None:
            model.check_data(split.x)
    folder = None if out is None else Path(out)
    _check_folder(folder, resume, model, settings)
    state = load_state(folder) if resume and folder is not None else None
    trainer = _Trainer(model, data, objective or model.objective(), settings, folder, device, logger, progress)
    if state is None:
        pyro.set_rng_seed(seed)
        model.initialise(data.train.x)
        if folder is not None:
            _write_config(folder, model, data, settings, source)
    return trainer.run(state)


def _as_dataset(data: Dataset | Split | Tensor) -> Dataset:
    if isinstance(data, Dataset):
        return data
    split = data if isinstance(data, Split) else Split(torch.as_tensor(data), Space("not stated"))
    if len(split) < 2:
        raise ValueError(f"fit got {len(split)} rows; expected at least 2 (a tenth is held out for validation)")
    held = max(len(split) // 10, 1)
    return Dataset("rows", split[:-held], split[-held:], split[-held:], (split.x.shape[1],))


def _check_folder(folder: Path | None, resume: bool, model: Model, settings: _Settings) -> None:
    if folder is None:
        if resume:
            raise ValueError("resume needs out=, the folder of the run to go on with")
        return
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out got {folder}, which is a file; expected a folder")
    if not resume:
        if (folder / CONFIG).exists():
            raise ValueError(
                f"{folder} holds a run already; choose another folder, or go on with it by resume (--resume)"
            )
        return
    config = read_config(folder)
    if config["model"] != type(model).__name__.lower() or config["options"] != model.options():
        raise ValueError(
            f"{folder} holds a run of {config['model']} with {config['options']}; resume with the same model"
        )
    stored = config["training"]
    for name, value in vars(settings).items():
        if name != "epochs" and stored[name] != value:
            raise ValueError(f"{folder} was trained with {name}={stored[name]!r}, not {value!r}; resume with the same")
    if settings.decay and stored["epochs"] != settings.epochs:
        raise ValueError(f"{folder} decays its step size over {stored['epochs']} epochs; resume with the same number")


def _write_config(
    folder: Path, model: Model, data: Dataset, settings: _Settings, source: dict[str, Any] | None
) -> None:
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "model": type(model).__name__.lower(),
            "options": model.options(),
            "training": vars(settings),
            "data": {"name": data.name, "shape": list(data.shape), "space": str(data.test.space), **(source or {})},
            "versions": {"pyro_dgm": __version__, "pyro": pyro.__version__, "torch": torch.__version__},
        },
    )


class _Trainer:
    """The state of one run."""

    def __init__(
        self,
        model: Model,
        data: Dataset,
        objective: Objective,
        settings: _Settings,
        folder: Path | None,
        device: str,
        logger: str,
        progress: bool,
    ) -> None:
        from lightning.fabric import Fabric

        self.fabric = Fabric(accelerator=device, devices=1, loggers=_loggers(folder, logger))
        self.model = model.to(self.fabric.device)
        train, valid, test = (split.to(self.fabric.device) for split in (data.train, data.valid, data.test))
        self.data = Dataset(data.name, train, valid, test, data.shape, data.redraw)
        self.objective, self.settings, self.folder, self.progress = objective, settings, folder, progress
        self.objective.attach(self.model)
        groups = objective.parameter_groups(self.model)
        self.optimiser = OPTIMISERS[settings.optimiser](groups, lr=settings.learning_rate, **settings.optimiser_options)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.parameters = list(self.model.parameters())
        self.averaged: list[Tensor] | None = None
        self.history: list[dict[str, float]] = []
        self.best, self.stale = -math.inf, 0
        self.steps = math.ceil(len(data.train) / settings.batch_size)
        self.limit = 1e4 * data.visible

    def run(self, state: dict[str, Any] | None) -> Run:
        first = 0 if state is None else self._restore(state)
        if state is None and self.settings.average is not None:
            self.averaged = [p.detach().clone() for p in self.parameters]
        total = self.steps * self.settings.epochs
        with tqdm(total=total, initial=first * self.steps, disable=not self.progress, unit="step") as bar:
            for epoch in range(first, self.settings.epochs):
                if self._patience_is_over():
                    break
                start = time.perf_counter()
                loss = self._epoch(epoch, bar)
                self._report(epoch, loss, time.perf_counter() - start, bar)
                self._checkpoint(epoch + 1)
        if self.averaged is not None:
            with torch.no_grad():
                for parameter, mean in zip(self.parameters, self.averaged, strict=True):
                    parameter.copy_(mean)
        for logger in self.fabric.loggers:
            logger.finalize("success")
        return Run(self.model, self.history, self.folder)

    def _epoch(self, epoch: int, bar: Any) -> float:
        settings, total = self.settings, 0.0
        for number, x in enumerate(self.data.batches(epoch, settings.batch_size, settings.seed)):
            if settings.decay == "linear":
                share = 1 - (epoch * self.steps + number) / (self.steps * settings.epochs)
                for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                    group["lr"] = rate * share
            self.optimiser.zero_grad(set_to_none=True)
            try:
                loss = self.objective.loss(x)
            except ValueError:
                if self._finite():
                    raise
                self._diverged(epoch, number, math.nan)  # validation saw the NaN before the loss did
            self.fabric.backward(loss)
            value = float(loss.detach())
            if not math.isfinite(value) or abs(value) > self.limit:
                self._diverged(epoch, number, value)
            self.optimiser.step()
            if self.averaged is not None:
                torch._foreach_lerp_(self.averaged, [p.detach() for p in self.parameters], 1 - settings.average)  # type: ignore[operator]
            total += value * len(x)
            bar.update()
        return total / len(self.data.train)

    def _finite(self) -> bool:
        """Whether the weights are sane: beyond 1e10 single precision overflows somewhere on the way to a likelihood."""
        return all(bool((p.abs() < 1e10).all()) for p in self.parameters)

    def _diverged(self, epoch: int, number: int, value: float) -> NoReturn:
        kept = (
            f" The last good checkpoint in {self.folder} is kept." if self.folder is not None and self.history else ""
        )
        raise TrainingDiverged(
            f"the loss became {value:g} in epoch {epoch + 1}, step {number + 1}; training stopped.{kept} "
            f"Try a smaller learning_rate than {self.settings.learning_rate:g}."
        )

    def _with_averaged(self) -> None:
        """Exchange the weights and their moving average."""
        if self.averaged is not None:
            with torch.no_grad():
                for parameter, mean in zip(self.parameters, self.averaged, strict=True):
                    kept = parameter.detach().clone()
                    parameter.copy_(mean)
                    mean.copy_(kept)

    def _report(self, epoch: int, loss: float, seconds: float, bar: Any) -> None:
        if not self._finite():
            self._diverged(epoch, self.steps - 1, math.nan)
        self._with_averaged()
        train = self.data.valid.x if self.data.redraw is not None else self.data.train.x
        figures = self.model.progress(train, self.data.valid.x)
        self._with_averaged()
        row = {"epoch": epoch + 1, "loss": loss, **figures, "seconds": seconds}
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            self._diverged(epoch, self.steps - 1, row[bad[0]])
        self.history.append(row)
        bar.set_postfix({k: f"{v:.4g}" for k, v in row.items() if k not in ("epoch", "seconds")}, refresh=False)
        self.fabric.log_dict({k: v for k, v in row.items() if k != "epoch"}, step=epoch + 1)
        monitored = next((value for name, value in figures.items() if name.startswith("valid_")), -loss)
        improved = monitored > self.best
        self.best, self.stale = (monitored, 0) if improved else (self.best, self.stale + 1)

    def _patience_is_over(self) -> bool:
        return self.settings.patience is not None and self.stale >= self.settings.patience

    def _checkpoint(self, epoch: int) -> None:
        if self.folder is None:
            return
        save_state(
            self.folder,
            {
                "epoch": epoch,
                "model": self.model.state_dict(),
                "averaged": self.averaged,
                "optimiser": self.optimiser.state_dict(),
                "objective": self.objective.state_dict(),
                "history": self.history,
                "best": self.best,
                "stale": self.stale,
                "random": torch.get_rng_state(),
                "random_device": torch.cuda.get_rng_state() if self.fabric.device.type == "cuda" else None,
            },
        )
        self._with_averaged()
        save_weights(self.folder, self.model)
        self._with_averaged()

    def _restore(self, state: dict[str, Any]) -> int:
        device = self.fabric.device
        try:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.objective.load_state_dict(_to(state["objective"], device))
            self.averaged = _to(state["averaged"], device)
            self.history, self.best, self.stale = state["history"], state["best"], state["stale"]
            torch.set_rng_state(state["random"])
            if state["random_device"] is not None:
                torch.cuda.set_rng_state(state["random_device"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"the training state in {self.folder} does not fit this model: {error}") from None
        return state["epoch"]


def _to(tree: Any, device: torch.device) -> Any:
    if isinstance(tree, dict):
        return {key: _to(value, device) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_to(value, device) for value in tree]
    return tree.to(device) if isinstance(tree, Tensor) else tree


def _loggers(folder: Path | None, kind: str) -> list[Any]:
    if kind not in ("csv", "tensorboard"):
        raise ValueError(f"logger got {kind!r}; expected 'csv' or 'tensorboard'")
    if folder is None:
        return []
    from lightning.fabric.loggers import CSVLogger, TensorBoardLogger

    if kind == "csv":
        return [CSVLogger(folder, name="logs", flush_logs_every_n_steps=1)]
    try:
        return [TensorBoardLogger(folder, name="logs")]
    except ModuleNotFoundError:
        raise ValueError("logger='tensorboard' needs the tensorboard package; pip install tensorboard") from None
