"""Output families by name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...advice import BINARISE
from .discrete import BinaryOutput, CategoricalOutput
from .family import Output
from .mixed import MixedOutput
from .mixture import MixtureOutput

DECLARE = (
    "Say what the columns are by output= (--set output=...): 'categorical:C' for categories numbered from 0, 'gaussian' for real "
    "numbers, or one family per column where they differ"
)
"""Advice for values that the declared family does not have."""

NAMES = "'binary', 'categorical:C', 'gaussian', 'gaussians:K', 'laplace' or 'laplaces:K'"


def output(name: str | Sequence[str], visible: int, scaled_gradient: bool = False) -> Output:
    """Make the output family of a name, or of one name per column.

    Args:
        name: ``"binary"``, ``"categorical:C"``, ``"gaussian"``, ``"gaussians:K"`` (a mixture), ``"laplace"`` or
            ``"laplaces:K"``; or a sequence of such names, one per column.
        visible: the number of columns, D.
        scaled_gradient: for mixtures and Gaussians: see ``MixtureOutput``.

    Raises:
        ValueError: another name, or a sequence of another length than D.

    Example:
        >>> output("gaussians:10", 4).parameters, output(["binary", "categorical:3"], 2).features
        (30, 3)
    """
    if isinstance(name, str):
        return _family(name, scaled_gradient)
    if not isinstance(name, Sequence) or not all(isinstance(one, str) for one in name):
        raise ValueError(f"output got {name!r}; expected {NAMES}, or a sequence of these, one per column")
    names = tuple(name)
    if len(names) != visible:
        raise ValueError(
            f"output got {len(names)} families for {visible} columns; declare one per column, or one name for all"
        )
    families = {n: _family(n, scaled_gradient) for n in set(names)}
    return families[names[0]] if len(families) == 1 else MixedOutput([families[n] for n in names])


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
        f"output got {name!r}; expected {NAMES} with C and K of at least 2, or a sequence of these, one per column"
    )


def advice(output: Output, x: Tensor) -> str:
    """Advice for values outside a family: make bits of grey levels, or declare another family."""
    grey = output.states == 2 and bool(((x >= 0) & (x <= 1)).all())
    return BINARISE if grey else DECLARE
