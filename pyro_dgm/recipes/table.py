"""The table of results."""

from __future__ import annotations

from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from .figure import compared
from .stored import recipes, repeats, results

HEAD = ["recipe", "test log-likelihood (or error)", "space", "published", "training", "machine"]

DISTANCES = ["recipe", "here", "published", "ahead by", "limited by"]


def table() -> str:
    """The results table of tutorials/results.md, in Markdown, from the recorded result files."""
    return _markdown(HEAD, rows())


def distances() -> str:
    """The table of distances from published figures, in Markdown: what ``compared`` finds, axis by axis."""
    stored, cells = recipes(), []
    for axis, compared_rows in groupby(compared(), key=lambda row: row.axis):
        cells.append([f"*{axis}*", "", "", "", ""])
        for row in compared_rows:
            ahead = row.published - row.value if axis.startswith("test error") else row.value - row.published
            here = f"{'≥ ' if row.kind == 'lower bound' else ''}{row.value:.2f}"
            published = f"{'≥ ' if row.bound else ''}{row.published:.2f}"
            cells.append([f"`{row.name}`", here, published, f"{ahead:+.2f}", stored[row.name].get("limits", "")])
    return _markdown(DISTANCES, cells)


def _markdown(head: list[str], cells: list[list[str]]) -> str:
    lines = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in (head, *cells))
    first, *others = lines
    return "\n".join([first, "|---" * len(head) + "|", *others])


def rows() -> list[list[str]]:
    """The cells of the table, a list per recorded result, in Markdown."""
    found = []
    all_recipes, others = recipes(), repeats()
    for name, result in results().items():
        figure = result["figure"]
        text = result["text"].removesuffix(f", {figure['space']}")
        published = all_recipes[name].get("published", "")
        for detail in all_recipes[name].get("show", ()):  # details that belong beside the figure
            text += f"; {detail.replace('_', ' ')} {result['details'][detail]:.2f}"
        if name in others:
            text += f"; {spread([result, *others[name]])}"
        clock = "CPU min" if "training_cpu_seconds" in result else "min"
        minutes = result.get("training_cpu_seconds", result["training_seconds"]) / 60
        training = f"{minutes:.1f} {clock}"
        found.append([f"`{name}`: {result['title']}", text, figure["space"], published, training, result["machine"]])
    return found


def spread(repeated: list[dict[str, Any]]) -> str:
    """The mean figure of several seeds and their standard deviation, in words."""
    unit = 100 if repeated[0]["figure"]["kind"] == "test error" else 1
    values = [unit * result["figure"]["value"] for result in repeated]
    return f"of {len(values)} seeds the mean is {fmean(values):.2f}, the standard deviation {stdev(values):.2g}"
