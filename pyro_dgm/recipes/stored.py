"""The stored recipes and results, one JSON file each."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

FILES = resources.files(__package__)


def recipes() -> dict[str, dict[str, Any]]:
    """Every recipe by name: title, model and options, data, training, evaluation."""
    files = (p for p in FILES.iterdir() if p.name.endswith(".json"))
    return {p.name.removesuffix(".json"): json.loads(p.read_text(encoding="utf-8")) for p in sorted(files, key=str)}


def results() -> dict[str, dict[str, Any]]:
    """The recorded results by recipe name."""
    folder = FILES / "results"
    if not folder.is_dir():
        return {}
    files = (p for p in folder.iterdir() if p.name.endswith(".json"))
    return {p.name.removesuffix(".json"): json.loads(p.read_text(encoding="utf-8")) for p in sorted(files, key=str)}
