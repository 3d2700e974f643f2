"""The choice of a learning rate, a batch size and a number of epochs by validation rows, within a given time."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..checks import check_positive, shown
from ..data.rows import as_dataset
from ..inference.random_state import seeded
from ..models.shared.model import Model
from ..objectives.objective import Objective
from .divergence import TrainingDiverged
from .fit import fit

RATES = (1e-3, 3e-3, 3e-4, 1e-2, 1e-4, 3e-2)
"""The learning rates that are tried, the likeliest first."""

SIZES = (100, 20)
"""The batch sizes that are tried, the likeliest first."""

KEPT = 3
"""One of so many candidates goes on from a round to the next."""

SEARCH = 2 / 3
"""The share of the time that goes into the search; the rest is for the training with what it found."""

RISING = 0.8
"""A training whose best epoch lies behind this share of its epochs would go on to improve."""

Make = Callable[[], tuple[Model, Objective | None]]
"""Makes a fresh model and its criterion, None for the model's own."""


class Trial(NamedTuple):
    """One training of the search.

    Attributes:
        learning_rate, batch_size, epochs: its settings.
        figure: the first ``valid_`` figure of the model's progress, at its best epoch; minus infinity where it diverged.
        seconds: the time that it took.
        best: its best epoch, from 1.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    figure: float
    seconds: float
    best: int


class Tuned(NamedTuple):
    """What a search found.

    Attributes:
        settings: arguments of ``fit`` for the training with it, in the time that is left.
        trials: all trainings, in their order.
    """

    settings: dict[str, Any]
    trials: list[Trial]


def tune(
    make: Make,
    data: Any,
    *,
    minutes: float,
    learning_rates: Sequence[float] = RATES,
    batch_sizes: Sequence[int] = SIZES,
    seed: int = 0,
    **options: Any,
) -> Tuned:
    """Find a learning rate, a batch size and a number of epochs for data that nobody tuned on, by successive halving.

    All candidates are trained for a few epochs; the best third by the model's figure on validation rows is trained anew for
    three times as many, and so on until one is left. Test rows are never looked at. Two thirds of the time go into the search.
    The settings that come back are those of the best training of all; if it was best near its end, with as many epochs as the
    rest of the time allows, else with its own, beyond which it overfits.

    Args:
        make: makes a fresh model and its criterion (None for the model's own), as ``lambda: (dgm.NADE(784), None)``.
        data: as for ``dgm.fit``.
        minutes: the time for search and training together; what is found depends on the speed of the machine.
        learning_rates: the rates that are tried.
        batch_sizes: the sizes that are tried.
        seed: the seed of every training.
        options: other arguments of ``dgm.fit``, for all trainings.

    Raises:
        ValueError: no time, no candidate, options that the search chooses itself, or a model without a figure on validation
            rows; time for not even one epoch of one candidate.

    Example:
        >>> import pyro_dgm as dgm
        >>> model, x = dgm.NADE.example()
        >>> found = tune(lambda: (dgm.NADE.example()[0], None), x, minutes=0.02, learning_rates=(1e-3, 1e-1), batch_sizes=(5,))
        >>> found.settings["learning_rate"] in (1e-3, 1e-1), found.settings["keep"]
        (True, 'best')
    """
    check_positive("minutes", minutes, "the time for search and training")
    if not learning_rates or not batch_sizes:
        raise ValueError(
            f"learning_rates got {shown(learning_rates)} and batch_sizes {shown(batch_sizes)}; expected at least one of each"
        )
    if chosen := sorted({"epochs", "learning_rate", "batch_size", "keep", "patience", "decay", "out"} & options.keys()):
        raise ValueError(f"tune got {', '.join(chosen)}, which it chooses itself or leaves to the training after it")
    data, start, trials = as_dataset(data), time.perf_counter(), []

    def trial(candidate: tuple[int, float], epochs: int) -> Trial:
        trials.append(_trained(make, data, candidate[1], candidate[0], epochs, seed, options))
        return trials[-1]

    alive = list(itertools.product(batch_sizes, learning_rates))
    # An epoch of every batch size tells how long epochs take; the very first one also compiles and imports.
    trial((batch_sizes[0], learning_rates[0]), 1)
    clocks = {size: trial((size, learning_rates[0]), 1).seconds for size in batch_sizes}
    budget = 60 * minutes
    rounds = max(1, math.ceil(math.log(len(alive), KEPT)))
    share = max(SEARCH * budget - (time.perf_counter() - start), 0.0) / rounds
    alive = _affordable(alive, clocks, share)
    for _ in range(rounds):
        epochs = int(share / sum(clocks[size] for size, _ in alive))
        if epochs < 1:
            break
        found = {candidate: trial(candidate, epochs) for candidate in alive}
        alive = sorted(alive, key=lambda candidate: -found[candidate].figure)[: max(1, len(alive) // KEPT)]
        if len(found) == 1:
            break
    best = max(trials, key=lambda t: t.figure)
    if best.figure == -math.inf:
        raise ValueError(
            "every training of the search diverged; look at the data (constant columns, units), or try lower rates"
        )
    left = budget - (time.perf_counter() - start)
    rises = best.best > RISING * best.epochs
    epochs = max(best.epochs, int(left / clocks[best.batch_size])) if rises else best.epochs
    settings = {
        "learning_rate": best.learning_rate, "batch_size": best.batch_size, "decay": "linear", "keep": "best",
        "epochs": epochs, "seed": seed, **options,
    }  # fmt: skip
    return Tuned(settings, trials)


def _affordable(
    candidates: list[tuple[int, float]], clocks: dict[int, float], seconds: float
) -> list[tuple[int, float]]:
    """As many candidates, the likeliest first, as an epoch each fits into the time; at least one."""
    total, kept = 0.0, list[tuple[int, float]]()
    for size, rate in candidates:
        total += clocks[size]
        if kept and total > seconds:
            break
        kept.append((size, rate))
    return kept


def _trained(make: Make, data: Any, rate: float, size: int, epochs: int, seed: int, options: dict[str, Any]) -> Trial:
    """One training, and its figure."""
    start = time.perf_counter()
    with seeded(seed):
        model, objective = make()
    try:
        run = fit(
            model, data, objective=objective, epochs=epochs, batch_size=size, learning_rate=rate, decay="linear", keep="best",
            seed=seed, progress=False, **{k: v for k, v in options.items() if k != "progress"},
        )  # fmt: skip
    except TrainingDiverged:
        return Trial(rate, size, epochs, -math.inf, time.perf_counter() - start, 0)
    row = run.history[run.epoch - 1]
    figure = next(value for name, value in row.items() if name.startswith("valid_"))
    return Trial(rate, size, epochs, figure, time.perf_counter() - start, run.epoch)
