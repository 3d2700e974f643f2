"""Recipes: what was trained and evaluated for every row of the results table."""

from __future__ import annotations

from typing import Any


def recipes() -> dict[str, Any]:
    return {}
