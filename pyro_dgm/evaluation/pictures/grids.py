"""Pictures as matplotlib Figures, without global state: a notebook shows them after ``%matplotlib inline``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .canvas import File, Shape, as_array, as_pictures, check_some, fold, save, show_image, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    above, below = as_pictures("x", x, shape), as_pictures("means", means, shape)
    if len(above) != len(below):
        raise ValueError(f"means got {len(below)} rows for {len(above)} rows of x; give one reconstruction per row")
    columns, rows = min(check_some("columns", columns), len(above)), []
    for start in range(0, len(above), columns):
        data, mean = (tile(pictures[start : start + columns], columns) for pictures in (above, below))
        rows += [data, mean[1:], np.ones_like(data[:2])]  # a pair shares a frame; white separates it from the next
    return save(show_image(np.concatenate(rows[:-1]), "data above, reconstruction below"), path)


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
    from matplotlib import colormaps

    image, title = tile(tiles, columns, np.nan, 2 * limit), f"{title}blue −{limit:.2g}, white 0, red +{limit:.2g}"
    colours = colormaps["RdBu_r"].with_extremes(bad="0.75", over="white")
    return save(show_image(image, title, cmap=colours, vmin=-limit, vmax=limit), path)


def latent_manifold(decode: Callable[[Tensor], Tensor], shape: Shape, columns: int = 20, path: File = None) -> Figure:
    """The means of a grid of two-dimensional codes as one seamless image with z₂ growing upwards (figure 20.6).

    Args:
        decode: a map from codes ``n x 2`` (normal quantiles of cells' midpoints, on the CPU) to means in [0, 1], ``n x D``.
        shape: the shape of one picture, as for `sample_grid`.
        columns: pictures per row and per column.
        path: a PNG file to write as well.

    Raises:
        ValueError: if `decode` does not return one picture per code, as for `sample_grid`.
    """
    z = torch.special.ndtri((torch.arange(check_some("columns", columns), dtype=torch.float64) + 0.5) / columns)
    codes = torch.cartesian_prod(z.flip(0), z).flip(1).to(torch.get_default_dtype())  # z₂ falls from row to row
    pictures = as_pictures("what decode returns", torch.no_grad()(decode)(codes), shape)
    if len(pictures) != columns**2:
        raise ValueError(f"decode returned {len(pictures)} rows for {columns**2} codes; return one row per code")
    (height, width), values = pictures.shape[1:3], torch.tensor([-2, -1, -0.5, 0, 0.5, 1, 2])
    figure = show_image(tile(pictures, columns, gap=0), "", left=72, bottom=48)
    axes, ticks, labels = figure.axes[0], torch.special.ndtr(values) * columns, [f"{z:g}" for z in values.tolist()]
    axes.set_axis_on()
    axes.set_xticks((ticks * width - 0.5).numpy(), labels)
    axes.set_yticks(((columns - ticks) * height - 0.5).numpy(), labels)
    axes.set(xlabel="z₁", ylabel="z₂", frame_on=False)
    return save(figure, path)


def energy_trace(idata: Any, path: File = None) -> Figure:
    """Traces and autocorrelations of the energies of up to eight chains; R-hat is that of all chains.

    Args:
        idata: an ArviZ InferenceData or DataTree; its posterior has energy or free_energy or both, chain x draw.
        path: a PNG file to write as well.

    Raises:
        ValueError: if `idata` has neither, or one is not finite, has other dimensions or fewer than 4 draws.
    """
    import arviz
    from matplotlib.figure import Figure

    posterior = idata["posterior"] if hasattr(idata, "posterior") else {}
    names = [name for name in ("energy", "free_energy") if name in posterior]
    if not names:
        raise ValueError(f"idata got posterior variables {list(posterior)}; expected energy, free_energy or both")
    figure = Figure((9, 2.5 * len(names)), 100, facecolor="white", layout="constrained")
    grid = figure.subplots(len(names), 2, squeeze=False, width_ratios=(2.6, 1))
    for name, (trace, decay) in zip(names, grid, strict=True):
        sizes, label = dict(posterior[name].sizes), name.replace("_", " ")
        if sizes.keys() != {"chain", "draw"} or sizes["draw"] < 4:
            raise ValueError(f"{name} got {sizes}; expected dimensions chain and draw, at least 4 draws: draw more")
        chains, lags = as_array(name, posterior[name].transpose("chain", "draw").values), min(sizes["draw"] // 2, 100)
        rhat = f"R-hat {float(arviz.rhat(chains)):.3f}" if len(chains) > 1 and np.ptp(chains) else "no R-hat"
        for chain in chains[:8]:
            trace.plot(chain, linewidth=0.7, alpha=0.75)
            if np.ptp(chain) > 0:
                products = np.fft.irfft(np.abs(np.fft.rfft(chain - chain.mean(), 2 * len(chain))) ** 2)
                decay.plot(products[: lags + 1] / products[0], linewidth=1, alpha=0.75)
        trace.set_title(f"{label}: {rhat} ({min(len(chains), 8)} of {len(chains)} chains)", fontsize=10, loc="left")
        trace.set(xlabel="draw", ylabel=f"{label} (nats)", xlim=(0, sizes["draw"] - 1))
        decay.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        decay.set(xlabel="lag (draws)", ylabel="autocorrelation", xlim=(0, lags))
    return save(figure, path)


def training_curve(history: Sequence[Mapping[str, Any]], path: File = None) -> Figure:
    """One panel per quantity over the epochs, with its ``valid_`` twin; a value that is not finite is left out.

    Args:
        history: entries with "epoch" and any of the quantities; one that is absent or None is skipped.
        path: a PNG file to write as well.

    Raises:
        ValueError: if there is no entry or quantity, an entry lacks "epoch", or a value is no number.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    try:
        table = [{name: float(value) for name, value in entry.items() if value is not None} for entry in history]
    except (TypeError, ValueError) as error:
        raise ValueError(f"history got a value that is no number ({error}); drop it or make it a float") from error
    panels = list(dict.fromkeys(name.removeprefix("valid_") for entry in table for name in entry if name != "epoch"))
    if not panels or not all(math.isfinite(entry.get("epoch", math.nan)) for entry in table):
        raise ValueError(f"history got {len(table)} entries; expected each with epoch, as {{'epoch': 1, 'loss': 2.5}}")
    columns, rows = min(len(panels), 3), math.ceil(len(panels) / 3)
    figure = Figure((max(3.2 * columns, 4.5), 2.6 * rows), 100, facecolor="white", layout="constrained")
    for place, panel in enumerate(panels, start=1):
        axes, left_out = figure.add_subplot(rows, columns, place), 0
        for name, label, colour in ((panel, "training", "C0"), (f"valid_{panel}", "validation", "C1")):
            points = np.array([(entry["epoch"], entry[name]) for entry in table if name in entry])
            left_out += int((~np.isfinite(points)).sum())
            axes.plot(*points.T, color=colour, label=label, lw=1.3, marker="o", ms=3 * (len(points) <= 40))
        nats = " (nats)" if any(word in panel for word in ("likelihood", "energy", "elbo")) else ""
        axes.set_title(panel.replace("_", " ") + nats + (f", {left_out} not finite" if left_out else ""), fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        if axes.lines[-1].get_label() == "validation":
            axes.legend(frameon=False, fontsize=8)
    return save(figure, path)
