"""The stored recipes and results, one JSON file each."""

from __future__ import annotations

import json
from collections import defaultdict
from importlib import resources
from typing import Any

FILES = resources.files(__package__)


def recipes() -> dict[str, dict[str, Any]]:
    """Every recipe by name: title, model and options, data, training, evaluation."""
    return _contents()


def results() -> dict[str, dict[str, Any]]:
    """The recorded results by recipe name."""
    return _contents("results")


def repeats() -> dict[str, list[dict[str, Any]]]:
    """Recorded results of other seeds than the recipe's, by recipe name; their files are ``results/seeds/NAME.SEED.json``."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in _contents("results", "seeds").values():
        found[result["recipe"]].append(result)
    return dict(found)


def _contents(*folders: str) -> dict[str, dict[str, Any]]:
    """What the JSON files of a folder hold, by their names."""
    folder = FILES.joinpath(*folders)
    if not folder.is_dir():
        return {}
    files = (p for p in folder.iterdir() if p.name.endswith(".json"))
    return {p.name.removesuffix(".json"): json.loads(p.read_text(encoding="utf-8")) for p in sorted(files, key=str)}
