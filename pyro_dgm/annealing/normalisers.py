"""The log Z of a program's energy-based sites by annealing, where figures need it and it cannot be listed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import processes
from ..energy.distribution import EnergyDistribution, NegativePhaseError, without_gradient
from ..energy.figure import LogPartition
from ..inference import importance
from ..inference.normalisers import Normalisers
from ..native import out_of_autocast
from .partition import log_partition

_ROWS = 1000
"""The most values of a site that annealing takes its means from."""


class AnnealedNormalisers:
    """The log Z of every energy-based site that a program meets: listed where it can be, else annealed once and kept.

    Attributes:
        found: by site, the figures that were annealed.
    """

    def __init__(self) -> None:
        self.found: dict[str, LogPartition] = {}

    def __call__(self, site: str, fn: EnergyDistribution, value: Tensor) -> Tensor:
        if site not in self.found:
            try:
                return fn._log_z()
            except NegativePhaseError:
                if not fn.layered:
                    raise
            rows = processes.gather(value.detach().reshape(-1, *fn.event_shape))
            with torch.no_grad():
                chosen = torch.linspace(0, len(rows) - 1, min(len(rows), _ROWS), device=rows.device).long()
                self.found[site] = log_partition(fn, "ais", base=rows[chosen].to(fn.parameters()[0]))
        reason = f"log Z of the site {site!r} was annealed, and is a number; use dgm.negative_phase to train"
        return without_gradient(self.found[site].value, fn.parameters(), reason)

    def around(self, program: Callable[..., Any]) -> Callable[..., Any]:
        """The program with these log Z."""
        return Normalisers(self)(program)

    def said(self) -> str:
        """The sites whose log Z was annealed, to be added to a method's name; empty if there is none."""
        return "".join(f", log Z of {site!r}: {figure.method}" for site, figure in self.found.items())

    def warn(self, stacklevel: int = 3) -> None:
        """Say which log Z were annealed, with their errors."""
        for site, figure in self.found.items():
            warnings.warn(
                f"log Z of the site {site!r} has too many states to be listed; it was annealed, to "
                f"{float(figure.value):.3f} ± {float(figure.stderr):.2g} nats ({figure.method}). For another figure bind one: "
                "dist.with_log_partition(value) in the program",
                stacklevel=stacklevel,
            )


@out_of_autocast
def log_weights(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    particles: int,
    max_plate_nesting: int = 1,
    **kwargs: Any,
) -> Tensor:
    r"""$\log w_{kn} = \log p(x_n, z_{kn}) - \log q(z_{kn} \mid x_n)$ in nats: ``particles x rows``.

    The weights of a datum do not depend on the rest of the batch; a plate's subsampling scale does not enter them. The
    rows are the plate at dim -1, and all particles are drawn in one vectorised run. Where an energy-based site has too many
    states for log Z to be listed, it is annealed with the options of ``dgm.log_partition`` by default, and a warning says so.

    Args:
        model: a Pyro program with an observed site.
        guide: a Pyro program with the model's latent sites.
        particles: draws per datum.
        max_plate_nesting: the number of plates (the data plate and the plates around it), at least 1.

    Raises:
        ValueError: a latent site is missing in the guide, or a site is not in the data plate; the message names it.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> dgm.log_weights(vae.model, vae.guide, x, particles=5).shape
        torch.Size([5, 10])
    """
    normalisers = AnnealedNormalisers()
    weights = importance.log_weights(
        normalisers.around(model), guide, *args, particles=particles, max_plate_nesting=max_plate_nesting, **kwargs
    )
    normalisers.warn()
    return weights
