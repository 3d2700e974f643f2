"""The Parzen-window figure of samples, with what it does not tell beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .trained import Outcome, Trained

if TYPE_CHECKING:
    from torch import Tensor

COMPARED = 3000
"""Samples and test rows for precision and recall."""


def measure(
    trained: Trained,
    samples: int = 10_000,
    widths: Sequence[float] | None = None,
    means: bool = False,
    steps: int | None = None,
) -> Outcome:
    """The Parzen figure of the test rows under windows around samples.

    The details have the figures of as many training rows and of their k-means centres under the same protocol, the
    discrepancy and its p-value, precision and recall with density and coverage, the accuracies of classifiers that tell samples
    from test rows, and the ratio of nearest-neighbour distances.

    Args:
        trained: a model and its data.
        samples: the number of windows, at most that of the training rows.
        widths: the widths that are tried; by default those of published figures, 0.1 to 1.
        means: put the windows around means of rows, given latents or the chain before, in place of draws, as published ones are.
        steps: the steps of every chain, for a model that draws by chains; the details then say how well these mix.
    """
    import torch

    from ...evaluation.samples import (
        mmd_test,
        nearest_neighbours,
        parzen,
        parzen_references,
        precision_recall,
        two_sample_test,
    )
    from ...evaluation.samples.parzen import WIDTHS

    if means and not hasattr(trained.model, "sample_means"):
        raise ValueError(f"means=True: {type(trained.model).__name__} has no means of rows to put windows around")
    if steps is not None and not hasattr(trained.model, "walked"):
        raise ValueError(
            f"steps got {steps}, but {type(trained.model).__name__} draws by no chain of its own; leave it out"
        )
    data, columns = trained.data, getattr(trained.model, "visible", None)
    tried = WIDTHS if widths is None else tuple(widths)
    # Rows of files are in some order, so that their first ones have a law of their own.
    generator = torch.Generator().manual_seed(0)
    train, valid, test = (split.x[:, :columns] for split in (data.train, data.valid, data.test))
    shuffled = test[torch.randperm(len(test), generator=generator)]
    count = min(samples, len(train))
    drawn = _drawn(trained.model, count, means, steps)[:, :columns]
    figure = parzen(drawn, test, valid, count, tried, space=str(data.test.space))
    compared = min(COMPARED, len(test), count)
    discrepancy = mmd_test(drawn, shuffled)
    near = precision_recall(drawn[:compared], shuffled[:compared])
    told = two_sample_test(drawn, test, n=compared)
    neighbours = two_sample_test(drawn, test, "nearest neighbour", min(1000, compared))
    details = {
        **{
            name.replace("-", "_").replace(" ", "_"): of_rows.value
            for name, of_rows in parzen_references(train, test, valid, count, tried).items()
        },
        "median": figure.median,
        "width": figure.width,
        "mmd": discrepancy.value,
        "mmd_p_value": discrepancy.p_value,
        "precision": near.precision,
        "recall": near.recall,
        "density": near.density,
        "coverage": near.coverage,
        "logistic_accuracy": told.accuracy,
        "logistic_p_value": told.p_value,
        "neighbour_accuracy_on_data": neighbours.on_data,
        "neighbour_accuracy_on_samples": neighbours.on_samples,
        "nearest_neighbour_ratio": nearest_neighbours(drawn, train, shuffled, min(1000, compared)).ratio,
    }
    if steps is not None:
        details |= _mixing(trained.model, steps)
    around = "windows around means" if means else "windows"
    return figure.as_dict() | {"method": f"{count} {around}"}, str(figure), details


def _drawn(model: Any, count: int, means: bool, steps: int | None) -> Tensor:
    """Samples or means of a model, by chains of so many steps where there are any."""
    import torch

    from ...evaluation.samples.rows import SAMPLED_AT_ONCE, rows_of
    from ...nets.modes import evaluating

    if steps is None and not means:
        return rows_of(model, "samples", count)
    draw = model.sample_means if means else model.sample
    options = {} if steps is None else {"steps": steps}
    with evaluating(model):
        sizes = [min(SAMPLED_AT_ONCE, count - start) for start in range(0, count, SAMPLED_AT_ONCE)]
        return torch.cat([draw(size, **options) for size in sizes])


def _mixing(model: Any, steps: int) -> dict[str, float]:
    """The worst R-hat and effective sample size of the scalars of 20 chains, after so many steps of warm-up."""
    import arviz

    from ...evaluation import to_arviz

    table = arviz.summary(to_arviz(model.chains(draws=steps, warmup=steps, chains=20)), kind="diagnostics")
    return {"chain_r_hat": float(table["r_hat"].max()), "chain_effective_draws": float(table["ess_bulk"].min())}
