"""``rank``: rows in order of how strange they are to a run's model."""

from __future__ import annotations

from argparse import Namespace

import torch
from torch import Tensor

from .. import progress
from ..data import Split
from ..data.row_files import split_of
from ..data.tables import UNLABELLED
from .parts import of_method
from .runs import Opened, open_run, other_rows, write_npz
from .show import can_draw, print_json
from .written import Places, also, check_place, table_form, write_places, write_rows

SHOWN = 50
"""The most rows that the picture shows."""

NAMED = 10
"""The strangest rows that are printed."""


def rank(options: Namespace) -> None:
    """Rank rows by a score of the model; save scores, a table of the ranks, and a picture of the strangest rows."""
    from ..evaluation import pictures
    from ..evaluation.anomalies import anomaly_scores
    from ..evaluation.anomalies import rank as ranked

    opened = open_run(options)
    form = table_form(opened)
    check_place(opened, "ranking", form or "csv")
    rows, anomalies, splits = _rows(opened, options)
    x, labels = rows.x, rows.labels
    chosen = of_method(opened.model, options) | ({} if options.method is None else {"method": options.method})
    with progress.shown(not options.quiet):
        scores = anomaly_scores(opened.model, x.to(options.device), options.by, **chosen)
    order = scores.values.argsort(descending=True, stable=True)
    found = None
    if anomalies is not None:
        found = ranked(scores.values, anomalies, options.threshold, options.first, seed=options.seed)
    shown = _listed(scores.values[order], options, anomalies is not None)
    file = opened.folder / "ranking.npz"
    known = {} if anomalies is None else {"anomalies": anomalies.numpy()}
    write_npz(file, scores=scores.values.numpy(), order=order.numpy(), **known)
    places: Places = {} if splits is None else {"split": [splits[row] for row in order.tolist()]}
    places |= {"row": order.tolist(), "rank": [*range(1, len(order) + 1)], "score": scores.values[order].tolist()}
    if anomalies is not None:
        places["anomaly"] = anomalies[order].tolist()
    table = (
        write_places(opened, "ranking", places)
        if form is None
        else write_rows(opened, "ranking", x[order].cpu(), form, places, None if labels is None else labels[order])
    )
    if opened.is_picture and can_draw():
        strangest = opened.grey(opened.pixels(x[order[:SHOWN]]))
        pictures.sample_grid(strangest, opened.shape, title="the strangest rows first", path=file.with_suffix(".png"))
    strange = [{"row": int(row), "score": float(scores.values[row])} for row in order[:shown]]
    if options.json:
        ranking = None if found is None else found.as_dict()
        print_json({"by": scores.by, "score": scores.text, "ranking": ranking, "strangest": strange})
        return
    unit = "" if scores.by == "reconstruction" else ", in nats"
    print(f"{len(x)} rows by {scores.text}{unit}")
    if found is not None:
        print(found)
    print(
        f"the {len(strange)} strangest (rows counted from 0, without a header{', test rows last' * options.among_test}): "
        + ", ".join(f"row {entry['row']} ({entry['score']:.4g})" for entry in strange)
    )
    print(f"scores in {file}{also(table)}")


def _listed(falling: Tensor, options: Namespace, judged: bool) -> int:
    """How many rows are printed: those that --first or --threshold asks for, unless these say what is taken for anomalies.

    Args:
        falling: the scores, the highest first.
        options: the arguments.
        judged: whether anomalies are known.

    Raises:
        ValueError: both, or more rows than there are.
    """
    if judged or (options.first is None and options.threshold is None):
        return NAMED
    if None not in (options.first, options.threshold):
        raise ValueError("--first and --threshold both say which rows to take; choose one")
    if options.first is None:
        return int((falling >= options.threshold).sum())
    if options.first > len(falling):
        raise ValueError(f"--first got {options.first}, but there are {len(falling)} rows")
    return int(options.first)


def _rows(opened: Opened, options: Namespace) -> tuple[Split, Tensor | None, list[str] | None]:
    """The rows, booleans of which are anomalies (None where that is not known), and of which split each is, if of any.

    Raises:
        ValueError: both ways to say which, or labels that the rows do not have.
    """
    split = other_rows(options.rows, options, opened)
    name = split_of(options.rows, options.split, options.data_dir)
    splits = None if name is None else [name] * len(split)
    if options.among_test:
        if options.anomalies is not None:
            raise ValueError("--anomalies and --among-test both say which rows are anomalies; leave one out")
        parts = (split, opened.dataset.test)
        given = torch.arange(sum(map(len, parts))) < len(split)
        labels = [torch.full((len(p),), UNLABELLED) if p.labels is None else p.labels for p in parts]
        both = Split(torch.cat([p.x for p in parts]), split.space, torch.cat(labels))
        return both, given, ["given" if own else "test" for own in given.tolist()]
    if options.anomalies is None:
        return split, None, splits
    if split.labels is None:
        raise ValueError(
            f"{options.rows} has no labels, which --anomalies needs; give an npz file with the rows x and their x_labels"
        )
    return split, torch.isin(split.labels, torch.tensor(options.anomalies)), splits
