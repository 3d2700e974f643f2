"""The table of results."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import Any

from .stored import recipes, repeats, results

HEAD = ["recipe", "test log-likelihood (or error)", "space", "published", "training", "machine"]


def table() -> str:
    """The results table of tutorials/results.md, in Markdown, from the recorded result files."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (HEAD, *rows())]
    head, *lines = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([head, "|---" * len(HEAD) + "|", *lines])


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
