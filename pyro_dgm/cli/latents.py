"""What ``diagnose`` tells about latent variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .show import can_draw


def print_latents(model: Any, x: Any, folder: Path) -> None:
    """Print the KL term of every latent site and the number of its active units; save a picture of both."""
    from ..evaluation import active_units, kl_per_latent
    from ..evaluation.pictures import latent_bars

    divergences = kl_per_latent(model.model, model.guide, x)
    activities = active_units(model.model, model.guide, x)
    print(f"latents of {len(x)} test rows: KL(q || p) in nats per row, and units with Cov_x(E_q[z]) > 0.01")
    for name, kl in divergences.items():
        active = activities[name].active
        error = f" ± {kl.total_stderr:.2g}" if kl.total_stderr > 1e-6 else ""
        print(
            f"  {name:<10} {kl.total:8.4g}{error} ({kl.method}), {int(active.sum())} of {active.numel()} units active"
        )
        if kl.value.numel() > 1:
            largest = ", ".join(f"{v:.3g}" for v in kl.value.flatten().sort(descending=True).values[:10].tolist())
            print(f"  {'':<10} by unit: {largest}{', ...' if kl.value.numel() > 10 else ''}")
    if can_draw():
        latent_bars(divergences, activities, path=folder / "latents.png")
