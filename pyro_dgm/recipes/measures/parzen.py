"""The Parzen-window figure of samples, with what it does not tell beside it."""

from __future__ import annotations

from collections.abc import Sequence

from .trained import Outcome, Trained

COMPARED = 3000
"""Samples and test rows for precision and recall."""


def measure(trained: Trained, samples: int = 10_000, widths: Sequence[float] | None = None) -> Outcome:
    """The Parzen figure of the test rows under windows around samples.

    The details have the figures of as many training rows and of their k-means centres under the same protocol, the
    discrepancy and its p-value, precision and recall with density and coverage, the accuracies of classifiers that tell samples
    from test rows, and the ratio of nearest-neighbour distances.

    Args:
        trained: a model and its data.
        samples: the number of windows, at most that of the training rows.
        widths: the widths that are tried; by default those of published figures, 0.1 to 1.
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
    from ...evaluation.samples.rows import rows_of

    data, columns = trained.data, getattr(trained.model, "visible", None)
    tried = WIDTHS if widths is None else tuple(widths)
    # Rows of files are in some order, so that their first ones have a law of their own.
    generator = torch.Generator().manual_seed(0)
    train, valid, test = (split.x[:, :columns] for split in (data.train, data.valid, data.test))
    shuffled = test[torch.randperm(len(test), generator=generator)]
    count = min(samples, len(train))
    drawn = rows_of(trained.model, "samples", count)[:, :columns]
    figure = parzen(drawn, test, valid, count, tried, space=str(data.test.space))
    compared = min(COMPARED, len(test))
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
    return figure.as_dict() | {"method": f"{count} windows"}, str(figure), details
