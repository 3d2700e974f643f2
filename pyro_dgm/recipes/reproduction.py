"""``reproduce``: train and evaluate a recipe, and write its result file."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any, TypedDict

from .. import signatures
from ..data.reading import read_json
from .measures import Outcome, Trained, check_measure, measured
from .rows import FAST_ROWS, dataset_of, source_of
from .stored import recipes
from .surroundings import Times, added, clocks, machine, passed, versions

FAST_COUNT = 10
"""The most chains, temperatures, warm-up steps, sweeps and particles of a fast run."""


def reproduce(
    name: str,
    out: Path,
    *,
    seed: int | None = None,
    data_dir: str | None = None,
    fast: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train and evaluate a recipe, and write ``result.json`` into its run.

    Args:
        name: the name of the recipe.
        out: the folder in which the run is made, ``NAME``, ``NAME-seed-1`` or ``NAME-fast``.
        seed: another seed of weights, training and evaluation than the recipe's; the data stay the same.
        data_dir: folder of the data files.
        fast: whether to make a few steps on a few rows only, to see that the recipe works; the result says so.
        resume: whether to go on with a run that was interrupted; a finished one is only evaluated again.
        progress: whether to show a progress bar.

    Raises:
        ValueError: there is no such recipe, the run exists already, or there is none to go on with.
    """
    from ..inference.random_state import seeded
    from ..train.checkpoint import has_checkpoint

    all_recipes = recipes()
    if name not in all_recipes:
        raise ValueError(f"there is no recipe {name!r}; expected one of {', '.join(all_recipes) or 'none'}")
    recipe = all_recipes[name]
    seed = recipe["seed"] if seed is None else seed
    run = out / folder_of(name, seed, fast)
    if not resume and has_checkpoint(run):
        raise ValueError(f"{run} holds a run already; choose another folder, or go on with it by resume (--resume)")
    if resume and not run.is_dir():
        raise ValueError(f"{run} does not exist, so that there is nothing to go on with; leave resume (--resume) out")
    # From the recipe's seed to the figure, so that neither an interruption nor what was drawn before changes the result.
    with seeded(seed):
        return _Reproduction(name, recipe, run, seed, data_dir, fast, resume, progress).result()


def folder_of(name: str, seed: int | None, fast: bool) -> str:
    """The name of a recipe's run, which says a seed that is not the recipe's, and that a run is fast."""
    return name + ("" if seed in (None, recipes()[name]["seed"]) else f"-seed-{seed}") + ("-fast" if fast else "")


class _Reproduction:
    """One recipe on its way to a result."""

    def __init__(
        self,
        name: str,
        recipe: dict[str, Any],
        run: Path,
        seed: int,
        data_dir: str | None,
        fast: bool,
        resume: bool,
        progress: bool,
    ) -> None:
        self.name, self.recipe, self.run, self.seed, self.data_dir = name, recipe, run, seed, data_dir
        self.fast, self.resume, self.progress = fast, resume, progress
        check_measure(self.measure_name)
        self.dataset = self._load(recipe)
        result = run / "result.json"
        self.earlier = checked(result, Result) if resume and result.is_file() else None
        self.spent: dict[str, float] = {}

    @property
    def measure_name(self) -> str:
        return str(self.recipe["evaluation"].get("measure", "likelihood"))

    def _load(self, recipe: dict[str, Any]) -> Any:
        return dataset_of(recipe, self.data_dir, recipe.get("fast_rows", FAST_ROWS) if self.fast else None)

    def result(self) -> dict[str, Any]:
        """Train and evaluate the model; write the result file and return its content."""
        from .. import registry
        from ..files import write_json

        recipe = self.recipe
        model = registry.build(recipe["model"], recipe["options"], self.dataset.visible, self.seed)
        fitted = self.train(model)
        classify = self.classifier(model)
        start = time.perf_counter()
        figure, text, details = self.measure(model, classify)
        result = {
            "recipe": self.name,
            "title": recipe["title"],
            "figure": figure,
            "text": text,
            "details": details,
            "fast": self.fast,
            **{f"training_{name}": round(value, 1) for name, value in self.spent.items()},
            "evaluation_seconds": round(time.perf_counter() - start, 1),
            "epochs": len(fitted.history),
            "last_epoch": fitted.history[-1],
            "command": shlex.join(["pyro-dgm", "reproduce", self.name, *self._options()]),
            "seed": self.seed,
            "versions": versions(),
            "machine": machine() if self.earlier is None else self.earlier["machine"],
            "evaluation_machine": machine(),
        }
        write_json(self.run / "result.json", result)
        return result

    def _options(self) -> list[str]:
        """The options of the command that makes this result."""
        seed = [] if self.seed == self.recipe["seed"] else ["--seed", str(self.seed)]
        return [*seed, *(["--fast"] if self.fast else [])]

    def train(self, model: Any) -> Any:
        """Prepare the model if the recipe says so, then fit; returns the run and stores the time that both took."""
        from .. import train
        from ..train.checkpoint import CONFIG

        recipe, note = self.recipe, self.run / "pretraining.json"
        training = recipe["training"] | ({"epochs": 1} if self.fast else {})
        self._prepare(model, note)
        begun = self.resume and (self.run / CONFIG).is_file()  # else only what was spent before stands there
        fitted = train.fit(
            model, self.dataset, objective=model.objective(**recipe.get("objective", {})), seed=self.seed, out=self.run,
            resume=begun, progress=self.progress, source=source_of(recipe), **training,
        )  # fmt: skip
        spent = {name: sum(row.get(name, 0.0) for row in fitted.history) for name in ("seconds", "cpu_seconds")}
        if note.is_file():
            spent = added(spent, checked(note, Times))
        elif self.earlier is not None:  # the earlier result counts the time spent outside fit too
            spent = {name: max(value, self.earlier.get(f"training_{name}", 0.0)) for name, value in spent.items()}
        self.spent = spent
        return fitted

    def _prepare(self, model: Any, note: Path) -> None:
        """Give a fresh run's model its first weights: those that another recipe ends with, or those of layers trained one by
        one. Writes the time to the file ``note`` for later resumptions."""
        from ..files import write_json
        from ..train.checkpoint import has_checkpoint

        if self.resume and has_checkpoint(self.run):
            return
        if "start" in self.recipe:
            spent = self._train_another(model)
        elif "pretraining" in self.recipe:
            spent = self._pretrain(model)
        else:
            return
        self.run.mkdir(parents=True, exist_ok=True)
        write_json(note, spent)

    def _train_another(self, model: Any) -> dict[str, float]:
        """Train the model by the recipe that this one starts from, in a run beside this one, or take it from there."""
        from ..inference.random_state import seeded

        name, seed = self.recipe["start"], self.seed
        run = self.run.parent / folder_of(name, seed, self.fast)
        options = self.data_dir, self.fast, run.exists(), self.progress
        with seeded(seed):
            first = _Reproduction(name, recipes()[name], run, seed, *options)
            first.train(model)
        return first.spent

    def _pretrain(self, model: Any) -> dict[str, float]:
        from .. import train

        started = clocks()
        stages = _shortened(self.recipe["pretraining"]) if self.fast else self.recipe["pretraining"]
        train.pretrain(model, self.dataset, seed=self.seed, progress=self.progress, **stages)
        return passed(started)

    def classifier(self, model: Any) -> Any:
        """The function from rows to classes that the recipe trains on the model's features, or None."""
        from ..train.classify import fine_tune

        if "classifier" not in self.recipe:
            return None
        started = clocks()
        options = self.recipe["classifier"] | ({"epochs": 1} if self.fast else {})
        if options.pop("grey", False):
            self.dataset = self._load({k: v for k, v in self.recipe.items() if k != "binarisation"})
        classify = fine_tune(model, self.dataset.train, seed=self.seed, **options)
        self.spent = added(self.spent, passed(started))
        return classify

    def measure(self, model: Any, classify: Any) -> Outcome:
        """Evaluate the model by the recipe's measure: the figure, its text and its details."""
        options = dict(self.recipe["evaluation"])
        if self.fast:
            counts = ("chains", "temperatures", "warmup", "particles", "sweeps", "steps", "samples")
            options |= {key: min(options[key], FAST_COUNT) for key in counts if key in options}
            if "orders" in options:
                options["orders"] = [min(count, 2) for count in options["orders"]]
        other = self.recipe.get("measured_on")  # the name of a data set, or what a recipe says of its data
        other = {"data": other} if isinstance(other, str) else other
        data = self.dataset if other is None else self._load({"options": {}, **other})
        options.pop("measure", None)
        return measured(self.measure_name, Trained(model, data, classify, self.fast), options)


class Result(TypedDict):
    """What is read of an earlier result file."""

    machine: str
    training_seconds: float
    training_cpu_seconds: float


def checked(path: Path, kind: Any) -> dict[str, Any]:
    """The content of a JSON file, checked to be of a kind."""
    content = read_json(path, "remove it, or reproduce the recipe in another folder")
    if problem := signatures.mismatch(content, kind, path.name):
        raise ValueError(f"{path}: {problem}; remove it, or reproduce the recipe in another folder")
    return dict(content)


def _shortened(stages: dict[str, Any]) -> dict[str, Any]:
    """The options of pretraining with one epoch per layer."""
    shortened = stages | {"epochs": 1}
    return shortened | ({"layers": [layer | {"epochs": 1} for layer in stages["layers"]]} if "layers" in stages else {})
