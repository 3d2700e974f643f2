"""What to do about rows that a model refuses, by the values that they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BINARISE = (
    "Grey levels need a binarisation: name one, as in dgm.data.load('digits', binarisation='threshold') or "
    "--binarisation threshold"
)
"""The advice about grey levels that were given to a binary model."""

REAL = (
    "Real numbers are for models of real columns, such as GaussianRBM (preprocessing='standardised' or --preprocessing "
    "standardised puts columns on one scale), and columns of several kinds for NeuralAutoregressive, whose output= names a law "
    "for each; or set a threshold yourself, as x > 0"
)
"""The advice about real numbers that were given to a binary model."""

BYTE = 255
"""The largest grey level in files of pictures."""


def on_bits(x: Tensor, otherwise: str = "") -> str:
    """What to do about rows that a model of two-valued columns refuses.

    Args:
        x: the rows, ``rows x shape``.
        otherwise: another remedy for grey levels and real numbers.

    >>> import torch
    >>> on_bits(torch.tensor([[-1.0, 1.0]]))
    "Rows of -1 and 1 are spins: give (x + 1) / 2, or choose a machine with unit='spin'"
    """
    known = x[~x.isnan()]
    low, high, whole = float(known.min()), float(known.max()), bool((known == known.round()).all())
    if whole and (low, high) == (0, 1):
        return "Rows of 0 and 1 are bits: give 2 x - 1, or choose a machine with unit='binary'"
    if bool((known.abs() == 1).all()):
        return "Rows of -1 and 1 are spins: give (x + 1) / 2, or choose a machine with unit='spin'"
    more = f"; or {otherwise}" if otherwise else ""
    if low >= 0 and high <= 1:
        return BINARISE + more
    if (division := _division(x)) is not None:
        return f"{division}: they are then grey levels. {BINARISE}{more}"
    return f"{'Whole numbers of such ranges are no pixels. ' if whole and low >= 0 else ''}{REAL}{more}"


def on_levels(x: Tensor, otherwise: str) -> str:
    """What to do about rows that are no grey levels in [0, 1]: a division if they can be made some, and another remedy.

    >>> import torch
    >>> on_levels(torch.tensor([[0, 255.0], [255.0, 0]]), "choose output='gaussian'")
    "Divide bytes by 255, or choose output='gaussian'"
    """
    division = _division(x)
    return f"{otherwise[0].upper()}{otherwise[1:]}" if division is None else f"{division}, or {otherwise}"


def _division(x: Tensor) -> str | None:
    """How rows become grey levels, if they look like pixels: whole numbers from 0 on in columns that share their range."""
    import torch

    x = x.flatten(1)
    known = ~x.isnan()
    values = x[known]
    high = float(values.max())
    if float(values.min()) < 0 or high <= 1 or not bool((values == values.round()).all()):
        return None
    ranges = torch.where(known, x, -torch.inf).amax(0) - torch.where(known, x, torch.inf).amin(0)
    ranges = ranges[ranges > 0]
    if not len(ranges) or float(ranges.median()) < high / 2:
        return None
    return "Divide bytes by 255" if BYTE / 2 < high <= BYTE else f"If these are pixels, divide them by {high:g}"
