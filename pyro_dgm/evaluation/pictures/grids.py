"""Pictures as matplotlib Figures, without global state: a notebook shows them after ``%matplotlib inline``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...checks import check_choice
from ...extras import need
from .canvas import File, Shape, as_array, as_pictures, check_some, empty, fold, save, show_image, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


IN_NATS = ("loss", "likelihood", "energy", "elbo", "bound", "reconstruction")
"""Words in the names of quantities that are in nats per row."""

PRIORS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], tuple[float, ...]]] = {
    "normal": (torch.special.ndtr, torch.special.ndtri, (-2, -1, -0.5, 0, 0.5, 1, 2)),
    "uniform": (lambda z: (z + 1) / 2, lambda share: 2 * share - 1, (-1, -0.5, 0, 0.5, 1)),
}
"""Laws of codes: distribution function, quantiles, and values that are marked."""


def sample_grid(x: Tensor, shape: Shape, columns: int = 10, title: str = "", path: File = None) -> Figure:
    """Pictures in reading order, each in a thin grey frame.

    Args:
        x: pictures in [0, 1], ``n x D``.
        shape: the shape of one picture, (height, width) or (channels, height, width) with 1 or 3 channels.
        columns: pictures per row.
        title: a line above the pictures.
        path: a PNG file to write as well; one that exists is replaced in one step.

    Raises:
        ValueError: if `x` is empty, not finite, outside [0, 1] or does not fit `shape`.

    Example:
        >>> sample_grid(torch.eye(4), shape=(2, 2), columns=2).axes[0].images[0].get_array().shape
        (7, 7)
    """
    pictures = as_pictures("x", x, shape)
    return save(show_image(tile(pictures, min(check_some("columns", columns), len(pictures))), title), path)


def reconstructions(x: Tensor, means: Tensor, shape: Shape, columns: int = 10, path: File = None) -> Figure:
    """Pairs of rows of pictures: data above, their reconstructions below.

    Args:
        x: data in [0, 1], ``n x D``.
        means: the reconstruction of each row, in [0, 1], ``n x D``.
        shape: the shape of one picture, as for `sample_grid`.
        columns: pictures per row.
        path: a PNG file to write as well.

    Raises:
        ValueError: as `sample_grid`, or if `x` and `means` differ in length.
    """
    title = "data above, reconstruction below"
    return _pairs({"x": x, "means": means}, shape, columns, title, path)


def samples_and_neighbours(
    samples: Tensor, nearest: Tensor, shape: Shape, columns: int = 10, path: File = None
) -> Figure:
    """Pairs of rows of pictures: samples above, their nearest training rows below.

    Args:
        samples: samples in [0, 1], ``n x D``.
        nearest: the training row of each that is nearest, as ``nearest_neighbours`` finds it, ``n x D``.
        shape: the shape of one picture, as for `sample_grid`.
        columns: pictures per row.
        path: a PNG file to write as well.

    Raises:
        ValueError: as `reconstructions`.

    Example:
        >>> samples_and_neighbours(torch.eye(4), torch.eye(4), shape=(2, 2)).axes[0].images[0].get_array().shape
        (7, 13)
    """
    title = "samples above, nearest training row below"
    return _pairs({"samples": samples, "nearest": nearest}, shape, columns, title, path)


def _pairs(sets: Mapping[str, Tensor], shape: Shape, columns: int, title: str, path: File) -> Figure:
    """Pictures of two sets of rows, each of the second below its partner of the first."""
    (first, above), (second, below) = ((name, as_pictures(name, x, shape)) for name, x in sets.items())
    if len(above) != len(below):
        raise ValueError(f"{second} got {len(below)} rows for {len(above)} rows of {first}; give one for every row")
    columns, rows = min(check_some("columns", columns), len(above)), []
    for start in range(0, len(above), columns):
        top, bottom = (tile(pictures[start : start + columns], columns) for pictures in (above, below))
        rows += [top, bottom[1:], np.ones_like(top[:2])]  # a pair shares a frame; white separates it from the next
    return save(show_image(np.concatenate(rows[:-1]), title), path)


def filters(weight: Tensor, shape: Shape, count: int = 64, path: File = None) -> Figure:
    """The columns of a weight matrix as pictures, strongest first, all on one scale that is symmetric around 0.

    Args:
        weight: ``D x hidden``, such as ``rbm.weight``.
        shape: the shape of one filter, as for `sample_grid`; with three channels, 0 is mid-grey.
        count: the largest number of filters that are shown.
        path: a PNG file to write as well.

    Raises:
        ValueError: if `weight` is empty, not finite or its columns do not fit `shape`.
    """
    rows = as_array("weight", weight).T
    shown = rows[np.argsort(-np.linalg.norm(rows, axis=1), kind="stable")[: check_some("count", count)]]
    limit, columns = float(np.abs(shown).max()) or 1.0, math.ceil(math.sqrt(len(shown)))
    title, tiles = f"{len(shown)} of {len(rows)} filters, strongest (by norm) first\n", fold("weight", shown, shape)
    if tiles.ndim == 4:
        return save(show_image(tile(0.5 + tiles / limit / 2, columns, 1), f"{title}grey 0, full ±{limit:.2g}"), path)
    need("a picture", "pictures")
    from matplotlib import colormaps

    image, title = tile(tiles, columns, np.nan, 2 * limit), f"{title}blue −{limit:.2g}, white 0, red +{limit:.2g}"
    colours = colormaps["RdBu_r"].with_extremes(bad="0.75", over="white")
    return save(show_image(image, title, cmap=colours, vmin=-limit, vmax=limit), path)


def latent_manifold(
    decode: Callable[[Tensor], Tensor], shape: Shape, columns: int = 20, path: File = None, prior: str = "normal"
) -> Figure:
    """The means of a grid of two-dimensional codes, with z₂ growing upwards (figure 20.6).

    Args:
        decode: a map from codes ``n x 2`` (the prior's quantiles of cells' midpoints, on the CPU) to means in [0, 1], ``n x D``.
        shape: the shape of one picture, as for `sample_grid`.
        columns: pictures per row and per column.
        path: a PNG file to write as well.
        prior: the law of a code's entries, ``"normal"`` or ``"uniform"`` (on [-1, 1]).

    Raises:
        ValueError: if `decode` does not return one picture per code, as for `sample_grid`; an unknown prior.
    """
    check_choice("prior", prior, PRIORS)
    cumulative, quantile, ticks = PRIORS[prior]
    z = quantile((torch.arange(check_some("columns", columns), dtype=torch.float64) + 0.5) / columns)
    codes = torch.cartesian_prod(z.flip(0), z).flip(1).to(torch.get_default_dtype())  # z₂ falls from row to row
    pictures = as_pictures("what decode returns", torch.no_grad()(decode)(codes), shape)
    if len(pictures) != columns**2:
        raise ValueError(f"decode returned {len(pictures)} rows for {columns**2} codes; return one row per code")
    (height, width), values = pictures.shape[1:3], torch.tensor(ticks)
    title = "means of p(x | z) at quantiles of the prior"
    figure = show_image(tile(pictures, columns), title, left=72, bottom=48)
    axes, places, labels = figure.axes[0], cumulative(values) * columns, [f"{z:g}" for z in ticks]
    axes.set_axis_on()
    axes.set_xticks((places * (width + 1)).numpy(), labels)  # a picture has a line of its frame beside it
    axes.set_yticks(((columns - places) * (height + 1)).numpy(), labels)
    axes.set(xlabel="z₁", ylabel="z₂", frame_on=False)
    return save(figure, path)


def training_curve(history: Sequence[Mapping[str, Any]], path: File = None) -> Figure:
    """One panel per quantity over the epochs, with its ``valid_`` twin; a value that is not finite is left out.

    Times (``seconds`` and names that end so) are left out.

    Args:
        history: entries with "epoch" and any of the quantities; one that is absent or None is skipped.
        path: a PNG file to write as well.

    Raises:
        ValueError: if there is no entry or quantity, an entry lacks "epoch", or a value is no number.
    """
    try:
        table = [{name: float(value) for name, value in entry.items() if value is not None} for entry in history]
    except (TypeError, ValueError) as error:
        raise ValueError(f"history got a value that is no number ({error}); drop it or make it a float") from error
    names = (name for entry in table for name in entry if name != "epoch" and not name.endswith("seconds"))
    panels = list(dict.fromkeys(name.removeprefix("valid_") for name in names))
    if not panels or not all(math.isfinite(entry.get("epoch", math.nan)) for entry in table):
        raise ValueError(f"history got {len(table)} entries; expected each with epoch, as {{'epoch': 1, 'loss': 2.5}}")
    columns, rows = min(len(panels), 3), math.ceil(len(panels) / 3)
    figure = empty(max(3.2 * columns, 4.5), 2.6 * rows)
    from matplotlib.ticker import MaxNLocator

    for place, panel in enumerate(panels, start=1):
        axes, left_out = figure.add_subplot(rows, columns, place), 0
        for name, label, colour in ((panel, "training", "C0"), (f"valid_{panel}", "validation", "C1")):
            points = np.array([(entry["epoch"], entry[name]) for entry in table if name in entry])
            left_out += int((~np.isfinite(points)).sum())
            axes.plot(*points.T, color=colour, label=label, lw=1.3, marker="o", ms=3 * (len(points) <= 40))
        axes.set_title(panel.replace("_", " ") + (f", {left_out} not finite" if left_out else ""), fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylabel("nats per row" if any(word in panel for word in IN_NATS) else "")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        if axes.lines[-1].get_label() == "validation":
            axes.legend(frameon=False, fontsize=8)
    return save(figure, path)
