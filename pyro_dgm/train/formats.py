"""Configurations of runs that older versions wrote, said in today's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMAT = 2
"""What this version writes."""

_BITS = {"bernoulli": "binary"}

_OPTIONS: dict[str, dict[str, tuple[str, dict[str, str]]]] = {
    **{
        name: {"likelihood": ("output", _BITS)}
        for name in ("vae", "conditionalvae", "hierarchicalvae", "supervisedgenerator", "variationalrnn")
    },
    "rnade": {"family": ("output", {})},
    **{name: {"steps": ("rounds", {})} for name in ("dbm", "s3c", "coupledslabrbm")},
}
"""Of a model's options in format 1: what they are called now, and values that have other names."""

_OBJECTIVES: dict[str, dict[str, tuple[str, dict[str, str]]]] = {"MultiPrediction": {"steps": ("rounds", {})}}
"""The same of a criterion's."""


def translated(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of an older format as this version would have written it; others, and users' own models, as they are.

    Example:
        >>> old = {"format": 1, "model": "vae", "options": {"visible": 4, "likelihood": "bernoulli"}}
        >>> translated(old)
        {'format': 2, 'model': 'vae', 'options': {'visible': 4, 'output': 'binary'}}
    """
    if config["format"] != 1:
        return config
    found = config | {"format": FORMAT}
    if "origin" not in config:
        found["options"] = _renamed(config["options"], _OPTIONS.get(config["model"], {}))
    if "objective" in config:
        found["objective"] = _renamed(config["objective"], _OBJECTIVES.get(config["objective"].get("objective"), {}))
    return found


def _renamed(options: Mapping[str, Any], names: Mapping[str, tuple[str, dict[str, str]]]) -> dict[str, Any]:
    """Options under their new names, in the same order."""
    found = {}
    for option, value in options.items():
        name, values = names.get(option, (option, {}))
        found[name] = values.get(value, value) if isinstance(value, str) else value
    return found
