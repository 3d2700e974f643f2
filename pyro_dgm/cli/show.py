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

STUCK = 0.02
"""The share of accepted proposals below which a chain is said to be stuck."""


def print_json(content: Any) -> None:
    """Print JSON without NaN or infinities."""
    print(json.dumps(content, indent=2, allow_nan=False))


def print_details(details: Mapping[str, Any]) -> None:
    """Print what belongs to a result, one line each; warns of chains that are stuck."""
    for name, value in details.items():
        text = value if isinstance(value, str) else format(value, ".4g")
        if name == "pareto_k_above_0.7" and value > 0:
            share = f"{100 * value:.2g} % of the rows"
            text += f" (for {share} a few draws carry all weight: {_on_heavy_weights(details)})"
        print(f"  {name.replace('_', ' ')}: {text}")
    if details.get("smallest_acceptance", 1.0) < STUCK:
        rate, row = details["smallest_acceptance"], details["row_of_smallest_acceptance"]
        warnings.warn(
            f"the chain of row {row} (counted from 0) accepted {rate:.2g} of its proposals, so that it hardly moved and its "
            "result is not of the conditional law; run longer chains (more --draws, and for condition a longer --warmup), train "
            "longer, or look whether the row is like the training rows",
            stacklevel=2,
        )


def _on_heavy_weights(details: Mapping[str, Any]) -> str:
    """What a few draws with all the weight mean for a result, and what to do."""
    for count in ("particles", "chains"):
        if count in details:
            return f"the bound may be loose; take more, as --method-option {count}={10 * int(details[count])}"
    return "the chains may miss what the guide never proposes; train longer, or take more --draws"


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
