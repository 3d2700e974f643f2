"""Generator networks with an explicit density, section 20.10.2."""

from __future__ import annotations


def check_columns(visible: int, fewest: int = 1) -> None:
    """Refuse a number of columns that is no integer of at least ``fewest``."""
    if not isinstance(visible, int) or isinstance(visible, bool) or visible < fewest:
        raise ValueError(f"visible got {visible!r}; expected the number of columns, at least {fewest}")


BINARISE = (
    "Grey levels need a binarisation: name one, as in dgm.data.load('digits', binarisation='threshold') or "
    "--binarisation threshold"
)
"""What to do about grey levels given to a binary model."""


def check_orders(orders: int) -> None:
    """Raise ``ValueError`` where ``orders`` is no number of orders."""
    if not isinstance(orders, int) or isinstance(orders, bool) or orders < 1:
        raise ValueError(f"orders got {orders!r}; expected how many orders are averaged, at least 1")
