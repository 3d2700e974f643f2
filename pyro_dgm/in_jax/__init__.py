"""Boltzmann machines as NumPyro distributions and kernels: compiled sampling, and a second, independent implementation.

Nothing but the graph and raw parameters crosses from torch to JAX, as copies; energies, sums and draws are written anew.
Importing this package imports neither: both are imported at the first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..extras import need
from ._conversion import to_numpyro

if TYPE_CHECKING:
    from ._numpyro_boltzmann import NumPyroBoltzmann
    from ._numpyro_gibbs import GibbsState, NumPyroGibbs

_LAZY = {
    "GibbsState": "_numpyro_gibbs",
    "NumPyroBoltzmann": "_numpyro_boltzmann",
    "NumPyroGibbs": "_numpyro_gibbs",
}

__all__ = ["GibbsState", "NumPyroBoltzmann", "NumPyroGibbs", "to_numpyro"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        need(f"pyro_dgm.in_jax.{name}", "jax")
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"pyro_dgm.in_jax has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
