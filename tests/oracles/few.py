"""Options with which a log-likelihood takes a moment: for tests of whether it works, not of how near it comes."""

from __future__ import annotations

from typing import Any

from pyro_dgm.models.shared.latent import LatentVariableModel
from pyro_dgm.models.shared.model import Model

ANNEALED = {"chains": 2, "temperatures": 3}


def few(model: Model) -> dict[str, Any]:
    """Few chains and temperatures where the model anneals, few particles where it weighs the guide's draws."""
    if isinstance(model, LatentVariableModel):
        known = model.evidence_methods.get(model.default_method, {})
        return {name: number for name, number in {**ANNEALED, "num_steps": 1, "particles": 3}.items() if name in known}
    return {**ANNEALED, "warmup": 2} if hasattr(model, "log_partition") else {}
