"""The picture of results beside published figures."""

from __future__ import annotations

import json
import math
import re
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from .stored import recipes, results

NUMBER = re.compile(r"^\D*?(-?\d+(?:\.\d+)?)")
"""The first number of a published figure in words."""


class Row(NamedTuple):
    """A result beside what was published for the same protocol.

    Attributes:
        axis: the unit and the space; rows of different ones never share an axis.
        name: the recipe's name.
        kind: exact, estimate, a bound, or another word of the result's figure.
        value: the result.
        low, high: its interval, infinite on the open side of a bound.
        published: the published figure.
        bound: whether what was published is a lower bound.
        minutes: minutes of training.
    """

    axis: str
    name: str
    kind: str
    value: float
    low: float
    high: float
    published: float
    bound: bool
    minutes: float


def compared() -> list[Row]:
    """The results for which there is a published figure of the same protocol, axis by axis."""
    rows, stored = [], recipes()
    for name, result in results().items():
        published = stored[name].get("published", "")
        found = None if published.startswith("(") else NUMBER.match(published)
        figure, space = result["figure"], result["figure"]["space"]
        if found is None or ("stochastic" in published and "stochastic" not in space):
            continue
        minutes = result.get("training_cpu_seconds", result["training_seconds"]) / 60
        unit, value, scale = "nats per row", figure["value"], 1.0
        if "a frame" in published:
            scale = result["details"]["nats_per_frame"] / value
            unit = "nats per frame"
        elif "%" in published:
            unit, scale = "test error, %", 100.0
        elif "Parzen" in published:
            unit = "Parzen figure, nats"
        error = 2 * figure["stderr_data"] if unit == "test error, %" else 0.0
        low, high = figure.get("lower"), figure.get("upper")
        below = value - error if low is None else low
        above = (math.inf if figure["kind"] == "lower bound" else value + error) if high is None else high
        rows.append(
            Row(
                f"{unit}; {space}",
                name,
                figure["kind"],
                value * scale,
                below * scale,
                above * scale,
                float(found[1]),
                published.startswith(">=") or "bound" in published,
                minutes,
            )
        )
    return sorted(rows, key=lambda row: (row.axis, row.name))


def draw(path: str | Path) -> None:
    """Write the picture as PNG; its description holds the rows that it shows.

    Args:
        path: the file; one that exists is replaced.
    """
    from ..evaluation.pictures.canvas import empty

    axes = [(axis, list(rows)) for axis, rows in groupby(compared(), key=lambda row: row.axis)]
    heights = [len(rows) + 1.2 for _, rows in axes]
    figure = empty(9, 0.34 * sum(heights))
    panels = figure.subplots(len(axes), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (axis, rows) in zip(panels, axes, strict=True):
        for place, row in enumerate(reversed(rows)):
            if math.isfinite(row.high):
                panel.plot([row.low, row.high], [place, place], color="C0", lw=4, alpha=0.4, label="here, interval")
            marker = ">" if row.kind == "lower bound" else "o"
            panel.plot(row.value, place, marker, color="C0", label="here" if marker == "o" else "here, a lower bound")
            marker, label = (">", "published, a lower bound") if row.bound else ("x", "published")
            panel.plot(row.published, place, marker, color="C3", mfc="none", label=label)
            panel.annotate(
                f"{row.minutes:.0f} min", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8
            )
        panel.set_yticks(range(len(rows)), [row.name for row in reversed(rows)], fontsize=8)
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.set_title(axis, fontsize=9, loc="left")
        panel.margins(x=0.08)
        panel.grid(axis="x", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=5, fontsize=8, frameon=False)
    figure.savefig(path, format="png", dpi=110, metadata={"Description": described(), "Software": None})


def described() -> str:
    """The rows of the picture as text."""
    return json.dumps([list(row) for row in compared()])
