"""What a graph may be made of, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..checks import shown
from .interactions import Interaction
from .units import Unit


def units(layers: Any) -> dict[str, Unit]:
    """Units by name.

    Raises:
        ValueError: something else, or none.
    """
    if not isinstance(layers, Mapping):
        raise ValueError(f"layers got {shown(layers)}; expected units by name, as in {{'visible': Binary(4)}}")
    if not layers:
        raise ValueError("a graph needs at least one layer, as in Graph({'visible': Binary(4)}, [])")
    for name, unit in layers.items():
        if not isinstance(name, str) or not isinstance(unit, Unit):
            raise ValueError(
                f"layers got {shown(name)}: {shown(unit)}; expected a name and units, as in 'visible': Binary(4)"
            )
    return dict(layers)


def couplings(interactions: Any) -> tuple[Interaction, ...]:
    """Interactions.

    Raises:
        ValueError: something else.
    """
    found = tuple(interactions) if isinstance(interactions, Iterable) else None
    if found is None or not all(isinstance(interaction, Interaction) for interaction in found):
        raise ValueError(
            f"interactions got {shown(interactions)}; expected couplings, as in [Dense('visible', 'hidden')]"
        )
    return found


def pairs(joint: Any) -> dict[str, str]:
    """Pairs of layers.

    Raises:
        ValueError: something else.
    """
    found: list[Any] = list(joint) if isinstance(joint, Iterable) else [None]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in found):
        raise ValueError(f"joint got {shown(joint)}; expected pairs of layers, as in [('switch', 'switched')]")
    return dict(found)
