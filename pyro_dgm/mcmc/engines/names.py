"""The engines by name."""

from __future__ import annotations

from ...deprecation import deprecated
from ...energy import EnergyDistribution
from ...extras import need
from ...native import steps_pay
from ..bit_layers import holds_bits

ENGINES = ("auto", "torch", "compiled", "jax")


def checked_engine(engine: str) -> str:
    """The present name of an engine, given that or a former one.

    Raises:
        ValueError: no engine has the name.
    """
    if engine == "numpyro":
        deprecated("engine='numpyro'", "engine='jax', or 'compiled' for what runs fastest", since="0.1.0", level=3)
        return "jax"
    if engine not in ENGINES:
        raise ValueError(f"engine got {engine!r}; expected one of {', '.join(map(repr, ENGINES))}")
    return engine


def engine_for(dist: EnergyDistribution, engine: str, rows: int) -> str:
    """The engine that anneals states of a distribution, ``"torch"`` or ``"jax"``.

    It is asked where no loop of this package anneals the whole path. ``"compiled"`` is torch for large machines of bits, whose
    products and draws are compiled loops, and JAX for all others; ``"auto"`` is torch, which compiles nothing that takes seconds.

    Args:
        dist: an energy distribution.
        engine: the name that the user gave.
        rows: the number of states that are annealed at once.

    Raises:
        ValueError: no engine has the name.
        MissingExtra: it is JAX, which is not installed.
    """
    engine = checked_engine(engine)
    on_torch = engine in ("auto", "torch")
    if engine == "compiled" and holds_bits(dist):
        on_torch = steps_pay(rows, sum(weight.numel() for weight in dist.machine.weights))
    if not on_torch:
        need(f"engine={engine!r}", "jax")
    return "torch" if on_torch else "jax"
