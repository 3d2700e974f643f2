"""A picture of the KL terms of latent variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..latents import SiteActivity, SiteKL
from .canvas import File, empty, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def latent_bars(
    divergences: Mapping[str, SiteKL], activities: Mapping[str, SiteActivity] | None = None, path: File = None
) -> Figure:
    """KL terms as bars, site by site and the largest first; the bars of inactive units are white.

    Args:
        divergences: the result of ``kl_per_latent``.
        activities: the result of ``active_units`` for the same sites; without it all bars are filled.
        path: a PNG file to write as well.

    Raises:
        ValueError: no site, or activities of other sites or components.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> len(latent_bars(dgm.kl_per_latent(vae.model, vae.guide, x)).axes[0].patches)
        2
    """
    if not divergences:
        raise ValueError("divergences got no site; expected what kl_per_latent returns for a model with latents")
    shades = {} if activities is None else {name: _active(name, kl, activities) for name, kl in divergences.items()}
    bars = sum(kl.value.numel() for kl in divergences.values()) + 2 * (len(divergences) - 1)
    figure = empty(min(max(0.09 * bars + 1.5, 0.8 * len(divergences) + 1, 4.5), 12), 2.8)
    axes, start, centres, labels = figure.add_subplot(), 0, [], []
    for name, kl in divergences.items():
        heights, errors = (figures.flatten().cpu().numpy() for figures in (kl.value, kl.stderr))
        order = np.argsort(-heights, kind="stable")
        filled = shades[name][order] if name in shades else np.ones(len(order), bool)
        places, line = start + np.arange(len(order)), max(min(40 / bars, 1.0), 0.3)
        colours = np.where(filled, "C0", "white")
        axes.bar(places, heights[order], 0.8, color=list(colours), edgecolor="C0", linewidth=line)
        if errors.max() > 1e-3 * max(np.abs(heights).max(), 1e-9):
            axes.errorbar(places, heights[order], 2 * errors[order], fmt="none", ecolor="0.3", elinewidth=0.8)
        centres.append(places.mean())
        labels.append(
            f"{name}\n{kl.total:.2f}" + (f"\n{int(filled.sum())} of {len(order)}" if activities is not None else "")
        )
        start += len(order) + 2
    axes.set_xticks(centres, labels, fontsize=9 if len(labels) < 9 else 7)
    axes.tick_params(axis="x", length=0)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(ylabel="KL (nats per row)", xlim=(-1, start - 2))
    axes.set_title("KL by unit; below: sum" + (", active units" if activities is not None else ""), fontsize=10)
    if shades:
        _explain(axes)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return save(figure, path)


def _explain(axes: Any) -> None:
    """A legend of filled and white bars."""
    from matplotlib.patches import Patch

    kinds = [
        Patch(facecolor=colour, edgecolor="C0", label=kind)
        for colour, kind in (("C0", "active"), ("white", "inactive"))
    ]
    axes.legend(handles=kinds, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _active(name: str, kl: SiteKL, activities: Mapping[str, SiteActivity]) -> np.ndarray:
    """Booleans, one per bar of a site: whether its unit is active, or for a whole site's bar whether any unit is."""
    if name not in activities:
        raise ValueError(f"activities got {sorted(activities)}; expected the site {name!r} among them")
    active = activities[name].active
    if kl.value.numel() == 1:
        active = active.any()
    if active.numel() != kl.value.numel():
        raise ValueError(
            f"activities of {name!r} have {active.numel()} units; expected {kl.value.numel()}, as its KL terms"
        )
    return active.flatten().cpu().numpy()
