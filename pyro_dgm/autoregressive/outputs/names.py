"""Families by name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...checks import BINARISE
from .discrete import BinaryOutput, CategoricalOutput
from .family import Output
from .mixed import MixedOutput
from .mixture import MixtureOutput

DECLARE = (
    "Say what the columns are by output= (--set output=...): 'categorical:C' for categories numbered from 0, 'gaussian' for real "
    "numbers, or one family a column where they differ"
)
"""What to do about values that are not of the declared family."""

NAMES = "'binary', 'categorical:C', 'gaussian', 'gaussians:K', 'laplace' or 'laplaces:K'"


def output(name: str | Sequence[str], visible: int, scaled_gradient: bool = False) -> Output:
    """The conditionals that a name (or one name a column) stands for.

    Args:
        name: ``"binary"``, ``"categorical:C"``, ``"gaussian"``, ``"gaussians:K"`` (a mixture), ``"laplace"`` or
            ``"laplaces:K"``; or a sequence of such names, one a column.
        visible: the number of columns, D.
        scaled_gradient: of mixtures and Gaussians: see ``MixtureOutput``.

    Raises:
        ValueError: another name, or a sequence of another length than D.

    Example:
        >>> output("gaussians:10", 4).parameters, output(["binary", "categorical:3"], 2).features
        (30, 3)
    """
    if isinstance(name, str):
        return _family(name, scaled_gradient)
    if not isinstance(name, Sequence) or not all(isinstance(one, str) for one in name):
        raise ValueError(f"output got {name!r}; expected {NAMES}, or a sequence of these, one a column")
    names = tuple(name)
    if len(names) != visible:
        raise ValueError(
            f"output got {len(names)} families for {visible} columns; declare one a column, or one name for all"
        )
    known = {n: _family(n, scaled_gradient) for n in set(names)}
    return known[names[0]] if len(known) == 1 else MixedOutput([known[n] for n in names])


def _family(name: str, scaled_gradient: bool) -> Output:
    kind, _, number = name.partition(":")
    count = int(number) if number.isdigit() else 0
    if name == "binary":
        return BinaryOutput()
    if kind == "categorical" and count >= 2:
        return CategoricalOutput(count)
    if name in ("gaussian", "laplace"):
        return MixtureOutput(1, name, scaled_gradient)
    if kind in ("gaussians", "laplaces") and count >= 2:
        return MixtureOutput(count, kind[:-1], scaled_gradient)
    raise ValueError(
        f"output got {name!r}; expected {NAMES} with C and K of at least 2, or a sequence of these, one a column"
    )


def advice(output: Output, x: Tensor) -> str:
    """What to do about values outside a family: bits from grey levels, or other families."""
    grey = output.states == 2 and bool(((x >= 0) & (x <= 1)).all())
    return BINARISE if grey else DECLARE
