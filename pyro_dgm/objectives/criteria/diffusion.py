"""The bound of a diffusion by terms at random times (section 20.13)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ...inference.registration import unregistered
from ..objective import Objective


class Stepwise(Protocol):
    """A model whose bound is a sum of one term a time, and one of the end."""

    steps: int

    def step_terms(self, x: Tensor, time: Tensor) -> Tensor:
        """The bound's loss of every row at a time of its own, 1 to ``steps``."""
        ...

    def end_terms(self, x: Tensor) -> Tensor:
        """What the end of the path costs every row."""
        ...


class StepBound(Objective):
    r"""Minus the variational bound of a diffusion, $\sum_{t=1}^T L_t + L_{end}$, with one time per row drawn from 1 to T.

    T times the mean of terms at stratified times has the bound's value and gradient in expectation, at the cost of one network
    pass per row whatever T (20.13; Sohl-Dickstein et al. 2015).

    Raises:
        ValueError: when a model is attached, one that is no diffusion.

    Example:
        >>> import pyro_dgm as dgm
        >>> diffusion, x = dgm.DiffusionInversion.example()
        >>> dgm.fit(diffusion, x, objective=dgm.StepBound(), epochs=1, progress=False).epoch
        1
    """

    def attach(self, model: Stepwise) -> None:
        if not hasattr(model, "step_terms"):
            raise ValueError(f"StepBound got {type(model).__name__}; expected a diffusion, dgm.DiffusionInversion")
        self._model = model

    def loss(self, x: Tensor) -> Tensor:
        time = stratified(len(x), self._model.steps, x.device)
        with unregistered():
            terms = self._model.step_terms(x, time)
            return self._model.steps * terms.mean() + self._model.end_terms(x).mean()


def stratified(rows: int, steps: int, device: torch.device | None = None) -> Tensor:
    """Times from 1 to ``steps``, each equally likely for every row, and spread evenly over the rows.

    Example:
        >>> sorted(stratified(4, 4).tolist())
        [1, 2, 3, 4]
    """
    places = torch.randperm(rows, device=device) + torch.rand(rows, device=device, dtype=torch.float64)
    return (places * (steps / rows)).long().clamp_max(steps - 1) + 1
