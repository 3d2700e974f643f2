"""``pyro-dgm export``."""

from __future__ import annotations

from argparse import Namespace

from ..data.stored import spread_rows
from ..files import write_json
from ..train.export_script import note_columns
from ..train.exporting import export as write
from .runs import open_run


def export(options: Namespace) -> None:
    """Write a model as programs of plain torch."""
    opened = open_run(options)
    folder = opened.folder / "export" if options.out is None else opened.folder
    x = spread_rows(opened.dataset.test.x)
    refused = write(opened.model, folder, x[~x.isnan().flatten(1).any(1)], options.rows_at_once, onnx=options.onnx)
    columns = opened.dataset.columns
    if columns is not None:
        write_json(folder / "columns.json", columns.as_dict())
        note_columns(folder, len(columns.numbers))
    print(f"programs in {folder}; run them by {folder / 'model.py'}")
    print("written: " + ", ".join(sorted(path.name for path in folder.iterdir())))
    for name, reason in refused.items():
        print(f"{name} was not written: {reason}")
