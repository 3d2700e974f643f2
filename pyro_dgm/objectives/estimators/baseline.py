"""The base of score-function estimators with a baseline network: how it is trained, saved and moved between devices."""

from __future__ import annotations

import itertools
from abc import ABC
from typing import Any

import pyro
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn

from ...checks import check_share
from ...inference.registration import UnregisteredModule
from .per_datum import PerDatumELBO
from .run import Run

_numbers = itertools.count(1)


class BaselineELBO(PerDatumELBO, ABC):
    """An estimator that may have a network, from the program's first argument (the rows of it in the data plate, if the
    plate takes a subsample) to figures for every row.

    The network is trained along with the programs: ``SVI`` finds it as a Pyro module, ``estimator(model, guide)`` has it
    among its parameters, and ``fit`` gives it a parameter group and moves it to the model's device and type.

    Args:
        particles: draws per datum.
        baseline: the network, or None.
        decay: the share of the old running means that a step keeps.
        max_plate_nesting: the number of plates in the model.

    Raises:
        ValueError: a baseline that is no module, or ``decay`` outside [0, 1).
    """

    def __init__(self, particles: int, baseline: nn.Module | None, decay: float, max_plate_nesting: int) -> None:
        super().__init__(particles, max_plate_nesting)
        if baseline is not None and not isinstance(baseline, nn.Module):
            raise ValueError(
                f"baseline got {type(baseline).__name__}; expected a module from rows to figures for every row, or None"
            )
        check_share("decay", decay, "the share that a step keeps", zero=True)
        self.baseline, self.decay = baseline, decay
        self._name = f"baseline_{next(_numbers)}"

    def __call__(self, model: nn.Module, guide: nn.Module) -> UnregisteredModule:
        module: Any = super().__call__(model, guide)
        module.baseline = self.baseline
        return module

    def figures_of(
        self,
        run: Run,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        rows: int,
        shapes: dict[tuple[int, ...], str],
    ) -> Tensor | None:
        """The output of the network for the rows; None without a network.

        Args:
            run: the traces of model and guide.
            args: the programs' arguments.
            kwargs: their keyword arguments.
            rows: the number of rows.
            shapes: the allowed shapes of a row's figures, with words for them.

        Raises:
            ValueError: the network gives another shape, or it is not clear which argument of the programs is the first.
        """
        if self.baseline is None:
            return None
        if am_i_wrapped():
            pyro.module(self._name, self.baseline)  # so that SVI trains it too
        if not args and len(kwargs) != 1:
            raise ValueError(
                f"the baseline sees the programs' first argument, but got none by position and {sorted(kwargs)} by name; pass "
                "the first one by position"
            )
        figures: Tensor = self.baseline(run.rows_of(args[0] if args else next(iter(kwargs.values())), rows))
        if figures.shape[:1] != (rows,) or tuple(figures.shape[1:]) not in shapes:
            raise ValueError(
                f"the baseline gave shape {tuple(figures.shape)} for {rows} rows; expected {', or '.join(shapes.values())}"
            )
        return figures

    def to(self, like: Tensor) -> None:
        if self.baseline is not None:
            self.baseline.to(like)

    def own_parameters(self) -> list[nn.Parameter]:
        return [] if self.baseline is None else list(self.baseline.parameters())

    def options(self) -> dict[str, Any]:
        return {"baseline": self.baseline is not None, "decay": self.decay}

    def state_dict(self) -> dict[str, Any]:
        return {} if self.baseline is None else {"baseline": self.baseline.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.baseline is not None:
            self.baseline.load_state_dict(state["baseline"])
