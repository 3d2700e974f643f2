"""Rows of which a part is known, as ``impute`` and ``condition`` take them."""

from __future__ import annotations

import difflib
import math
from argparse import Namespace
from typing import NamedTuple

import torch
from torch import Tensor

from .runs import Opened


class PartlyKnown(NamedTuple):
    """Rows of which a part is known.

    Attributes:
        x: the rows.
        known: booleans, of every row or of all.
        labels: classes that are no part of the rows; None without.
    """

    x: Tensor
    known: Tensor
    labels: Tensor | None = None


def partly_known(opened: Opened, device: str, n: int = 10, columns: Tensor | None = None) -> PartlyKnown:
    """Test rows from all over the split, and what is known of them; missing values (NaN) never are.

    Args:
        opened: the run.
        device: that of the rows.
        n: the number of rows.
        columns: booleans of a row; by default the first half of the columns and the labels are known. Those that the model is
            given always are.
    """
    test, wide = opened.dataset.test, opened.dataset.visible - opened.classes
    spread = torch.linspace(0, len(test) - 1, min(n, len(test))).long()
    x = test.x[spread].to(device)
    known = opened.known(torch.arange(wide) < math.ceil(wide / 2)) if columns is None else columns
    always = opened.model.given_columns()
    known = (known if always is None else known | always.cpu()).to(device)
    labels = None if test.labels is None else test.labels[spread]
    return PartlyKnown(x, known & ~x.isnan() if bool(x.isnan().any()) else known, labels)


def partly_known_rows(opened: Opened, options: Namespace) -> PartlyKnown:
    """The rows of ``--rows``, converted as the run's were, or test rows, and what is known of them.

    Raises:
        ValueError: options for test rows with ``--rows``, columns that the run does not have, or rows that its model does not
            take.
    """
    from ..data.row_files import incomplete_rows

    if options.rows is None:
        return partly_known(opened, options.device, options.n or 10, _columns(opened, options.known or ["0.5"]))
    for flag, value in (("-n", options.n), ("--known", options.known and options.known[0])):
        if value is not None:
            raise ValueError(f"{flag} got {value}, which is for test rows, with --rows: leave it out")
    wide = opened.dataset.visible - opened.classes
    read, labels = incomplete_rows(options.rows, opened.dataset.visible, opened.classes, opened.dataset.columns)
    x = torch.cat([opened.converted(read[:, :wide], options.rows), read[:, wide:]], 1).to(options.device)
    known, x = ~x.isnan(), x.nan_to_num()
    opened.check_known(options.rows, x, known)
    return PartlyKnown(x, known, labels)


def _columns(opened: Opened, stated: list[str]) -> Tensor:
    """Booleans of the columns that ``--known`` states: a share of them from the first with the label, or those of some names.

    Raises:
        ValueError: a share that is none, a name that no column of the run has, or names of data without any.
    """
    wide, columns = opened.dataset.visible - opened.classes, opened.dataset.columns
    numbers = () if columns is None else columns.numbers
    of_label = [] if columns is None or columns.label is None or not opened.classes else [columns.label.name]
    names = [*dict.fromkeys(numbers), *of_label]
    if len(stated) == 1 and stated[0] not in names and (share := _share(stated[0])) is not None:
        return opened.known(torch.arange(wide) < math.ceil(share * wide))
    for name in stated:
        if name in names:
            continue
        if not names:
            raise ValueError(
                f"--known got {name[:40]!r}, but the columns of the run's data have no names; expected a share between 0 and 1"
            )
        near = difflib.get_close_matches(name, names, 5, 0.5) or names[:10]
        told = ", ".join(map(repr, near)) + (" …" if len(near) < len(names) else "")
        raise ValueError(
            f"--known got {name[:40]!r}, which is no column of the run's rows; expected names of columns ({told}; repeat --known "
            "for more), or a share between 0 and 1"
        )
    named = torch.tensor([name in stated for name in numbers])
    return torch.cat([named, torch.full((opened.classes,), bool(set(of_label) & set(stated)))])


def _share(text: str) -> float | None:
    """The number of a text, if it is a share between 0 and 1."""
    try:
        share = float(text)
    except ValueError:
        return None
    return share if 0 < share < 1 else None
