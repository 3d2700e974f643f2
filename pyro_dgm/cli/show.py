"""The forms in which results are printed."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..extras import MissingExtra, need
from ..files import write_atomically


def print_json(content: Any) -> None:
    """Print JSON without NaN or infinities."""
    print(json.dumps(content, indent=2, allow_nan=False))


def print_details(details: Mapping[str, Any]) -> None:
    """Print what belongs to a result, one line each."""
    for name, value in details.items():
        print(f"  {name.replace('_', ' ')}: {value if isinstance(value, str) else format(value, '.4g')}")


def can_draw() -> bool:
    """Whether pictures can be drawn beside a result; if not, a warning says what to install."""
    try:
        need("no pictures: drawing", "pictures")
    except MissingExtra as error:
        warnings.warn(str(error))
        return False
    return True


def wide_tables() -> Any:
    """A context in which pandas prints wide tables in full."""
    import pandas

    return pandas.option_context("display.width", 120, "display.max_columns", 20, "display.max_rows", 30)


def write_idata(path: Path, idata: Any) -> None:
    """Write ArviZ's data beside the file, which they then replace."""
    with tempfile.TemporaryDirectory() as folder:  # NetCDF's library writes to names alone
        draft = Path(folder, path.name)
        idata.to_netcdf(str(draft))
        write_atomically(path, lambda file: file.write(draft.read_bytes()))
