"""The data of a recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

FAST_ROWS, FAST_TRAINING = 40, 3
"""Rows of a split in a fast run, enough to see that a recipe works, and how many times as many it trains on.

A recipe of long rows (whole sequences) has a number of its own, ``fast_rows``.
"""


def dataset_of(recipe: dict[str, Any], data_dir: str | None, count: int | None = None) -> Any:
    """The recipe's data: validation rows join the training rows, then grey levels become bits or real numbers.

    With a count only the first rows of every split are taken, before anything is done to them.
    """
    from .. import data

    def load(name: str) -> Any:
        dataset = data.load(name, data_dir=data_dir)
        return dataset if count is None else _first_rows(dataset, count)

    dataset = load(recipe["data"])
    if recipe.get("train_on") == "train and valid":
        dataset = dataset.with_validation_in_training()
    if "binarisation" in recipe:
        dataset = data.binarise(dataset, recipe["binarisation"], recipe["seed"])
    if "preprocessing" in recipe:
        dataset = data.preprocess(dataset, **recipe["preprocessing"])
    if "test_on" in recipe:
        test = load(recipe["test_on"]).test
        dataset = replace(dataset, test=test)
    return dataset.labelled(recipe["options"]["classes"]) if "classes" in recipe["options"] else dataset


def _first_rows(dataset: Any, count: int) -> Any:
    """The data with the first rows of every split only."""
    train = dataset.train[: FAST_TRAINING * count]
    return replace(dataset, train=train, valid=dataset.valid[:count], test=dataset.test[:count])


def source_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """The origin of the data for a run's configuration."""
    source = {"source": recipe["data"], "binarisation": recipe.get("binarisation") or "none", "seed": recipe["seed"]}
    return source | {name: recipe[name] for name in ("preprocessing",) if name in recipe}
