"""Base classes and checks for the models of this package and of users; each is imported at its first use."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "AutoregressiveModel": "autoregressive",
    "BoltzmannModel": "boltzmann",
    "EnergyModel": "energy_based",
    "Evidence": "evidence",
    "ExplicitModel": "explicit",
    "FreeEnergyModel": "free_energy",
    "LatentVariableModel": "latent",
    "Model": "model",
    "OrderlessModel": "orderless",
    "ProbabilisticModel": "model",
    "check_binary": "rows",
    "check_rows": "rows",
    "check_support": "rows",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"{__name__} has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
