"""How well the missing half of pictures is told from the half that is seen."""

from __future__ import annotations

from typing import Any

from .trained import Outcome, Trained

HALVES = {"left": (1, 0), "right": (1, 1), "upper": (0, 0), "lower": (0, 1)}
"""The axis that a half cuts, and whether it is the second half of it."""

FAST_ROWS = 3
"""Test rows of a fast run."""


def measure(trained: Trained, seen: str = "left", rows: int = 500, **options: Any) -> Outcome:
    """The mean log-probability of the missing half of test pictures given the half that is seen, in nats.

    Args:
        trained: a Boltzmann machine of bits, and its data.
        seen: ``"left"``, ``"right"``, ``"upper"`` or ``"lower"``.
        rows: how many of the first test rows are taken.
        **options: of ``dgm.conditional_log_likelihood``.
    """
    import torch

    from ...checks import check_choice
    from ...evaluation.conditional_likelihood import conditional_log_likelihood

    check_choice("seen", seen, HALVES)
    axis, second = HALVES[seen]
    side = trained.data.shape[axis]
    places = torch.arange(side).unsqueeze(1 - axis).expand(trained.data.shape).flatten()
    known = (places >= side // 2) == bool(second)
    test = trained.data.test[: FAST_ROWS if trained.fast else rows]
    figure = conditional_log_likelihood(trained.model, test, known, f"the {seen} half", **options)
    return figure.as_dict(), str(figure), {}
