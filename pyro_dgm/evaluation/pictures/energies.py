"""A picture of the energies of chains, or of other figures of their states: traces, ranks and autocorrelations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...extras import need
from .canvas import File, as_array, empty, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENERGIES = ("energy", "free_energy")

TRACED = 3
"""The most chains whose traces are drawn: more hide one another."""

BINS = 20
"""Bins of ranks."""


def energy_trace(idata: Any, path: File = None) -> Figure:
    """Energies of chains: traces of a few, ranks of all, and the autocorrelation; R-hat is that of all chains.

    Chains without an energy are shown by the figures of their states that they have instead.

    Ranks are those of a chain's draws among the draws of all chains. If the chains have mixed, they spread evenly; the colours
    tell by how many standard deviations of independent draws a bin has more (red) or fewer (blue) of them.

    Args:
        idata: an ArviZ InferenceData or DataTree; its posterior has energy or free_energy or both, chain x draw, or else other
            figures of that shape.
        path: a PNG file to write as well.

    Raises:
        ValueError: if `idata` has neither, or one is not finite, has other dimensions or fewer than 4 draws.
    """
    need("energy_trace", "arviz", "pictures")
    import arviz

    posterior = idata["posterior"] if hasattr(idata, "posterior") else {}
    others = [name for name in posterior if set(posterior[name].dims) == {"chain", "draw"}]
    names = [name for name in ENERGIES if name in posterior] or others
    if not names:
        raise ValueError(
            f"idata got posterior variables {list(posterior)}; expected energy, free_energy or both, or others that are chain x "
            "draw"
        )
    figure = empty(9.2, 2.6 * len(names))
    grid = figure.subplots(len(names), 3, squeeze=False, width_ratios=(2, 1.4, 1))
    for name, (trace, ranks, decay) in zip(names, grid, strict=True):
        sizes, label = dict(posterior[name].sizes), name.replace("_", " ")
        if sizes.keys() != {"chain", "draw"} or sizes["draw"] < 4:
            raise ValueError(f"{name} got {sizes}; expected dimensions chain and draw, at least 4 draws: draw more")
        chains = as_array(name, posterior[name].transpose("chain", "draw").values)
        rhat = f"R-hat {float(arviz.rhat(chains)):.3f}" if len(chains) > 1 and np.ptp(chains) else "no R-hat"
        for chain in chains[:TRACED]:
            trace.plot(chain, linewidth=0.7, alpha=0.85)
        trace.set_title(
            f"{label}: {rhat} ({min(len(chains), TRACED)} of {len(chains)} chains)", fontsize=10, loc="left"
        )
        trace.set(xlabel="draw", ylabel=f"{label} (nats)" if name in ENERGIES else label, xlim=(0, sizes["draw"] - 1))
        _ranks(ranks, chains)
        _decay(decay, chains)
    return save(figure, path)


def _ranks(axes: Any, chains: np.ndarray) -> None:
    """The ranks of every chain's draws, a row per chain."""
    bins, ordered = max(min(BINS, chains.shape[1] // 4), 1), np.sort(chains, axis=None)
    # Equal values share the middle of their ranks.
    places = sum(np.searchsorted(ordered, chains, side) for side in ("left", "right")) / 2 / chains.size * bins
    counts = np.stack([np.bincount(row.astype(int).clip(0, bins - 1), minlength=bins) for row in places])
    expected = counts.mean(0)  # all alike, unless values are few, as counts are
    deviations = np.where(expected > 0, (counts - expected) / np.maximum(expected, 1e-9) ** 0.5, 0.0)
    image = axes.imshow(
        deviations, cmap="RdBu_r", vmin=-4, vmax=4, aspect="auto", interpolation="nearest",
        extent=(0, 1, len(chains) + 0.5, 0.5),
    )  # fmt: skip
    axes.set_title("ranks: red many, blue few (±4 deviations)", fontsize=9, loc="left")
    axes.set(xlabel="rank among all draws", ylabel="chain")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.figure.colorbar(image, ax=axes, ticks=(-4, 0, 4), fraction=0.05)


def _decay(axes: Any, chains: np.ndarray) -> None:
    """The autocorrelation, mean and range over the chains that move."""
    draws = chains.shape[1]
    lags = min(draws // 2, 100)
    moving = chains[np.ptp(chains, axis=1) > 0]
    if len(moving):
        centred = moving - moving.mean(1, keepdims=True)
        products = np.fft.irfft(np.abs(np.fft.rfft(centred, 2 * draws)) ** 2)[:, : lags + 1]
        by_chain = products / products[:, :1]
        axes.plot(by_chain.mean(0), linewidth=1.2, label="mean")
        axes.fill_between(np.arange(lags + 1), by_chain.min(0), by_chain.max(0), alpha=0.25, linewidth=0, label="range")
        axes.legend(frameon=False, fontsize=8)
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.set(xlabel="lag (draws)", ylabel="autocorrelation", xlim=(0, lags))
