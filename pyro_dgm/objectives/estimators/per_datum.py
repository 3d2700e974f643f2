"""The base of ELBO-like estimators whose weights belong to single data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from pyro.infer import ELBO
from pyro.infer.util import torch_item
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ...checks import check_count
from ...inference.importance import check_nesting, traces
from ...inference.light import LightRuns
from ...inference.random_state import RandomState
from ...inference.registration import UnregisteredModule
from ...inference.sites import sites
from .run import Run

Program = Callable[..., Any]


class PerDatumELBO(ELBO, ABC):
    """An estimator that treats every datum by itself, so that the loss of a row does not depend on the rest of the batch.

    A subclass draws, and turns log-probabilities into one loss per row: the value is the one reported, and the gradient is
    the estimator's. Use it as any Pyro ELBO: in ``SVI``, as a module ``estimator(model, guide)`` under ``torch.optim``, or
    as ``dgm.Elbo(estimator)`` in ``fit``. Particles are drawn in one vectorised run; a subsampled data plate scales the
    loss; the last batch may be smaller.
    """

    fewest: ClassVar[int] = 1
    """The least number of particles that the estimator works with."""

    def __init__(self, particles: int = 5, max_plate_nesting: int = 1) -> None:
        why = "; it leaves one out at a time" if self.fewest > 1 else ""
        particles = check_count(f"{type(self).__name__}: particles", particles, self.fewest, why=why)
        check_nesting(type(self).__name__, max_plate_nesting)
        super().__init__(num_particles=particles, max_plate_nesting=max_plate_nesting, vectorize_particles=True)
        self._runs = LightRuns()

    def __call__(self, model: torch.nn.Module, guide: torch.nn.Module) -> UnregisteredModule:
        return UnregisteredModule(model, guide, self)

    @abstractmethod
    def row_losses(self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scaled:
        """The loss of every row, and the scale of the data plate."""

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The sum of the rows' losses, with the scale of the data plate."""
        losses, scale = self.row_losses(model, guide, args, kwargs)
        return (scale * losses).sum() if isinstance(scale, Tensor) else scale * losses.sum()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return torch_item(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return torch_item(loss)

    def options(self) -> dict[str, Any]:
        """The description of the estimator in a run on disk, beyond its class and particles."""
        return {}

    def to(self, like: Tensor) -> None:
        """Move the estimator's parameters to the device and type of a model's parameter; by default there are none."""
        return None

    def own_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters of the estimator (a baseline's, say), to be trained along with model and guide."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """The state of the estimator that a resumed run needs; empty by default."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        return None

    def _get_trace(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(f"{type(self).__name__} draws its particles in one vectorised run; use differentiable_loss")

    def draw(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any], paths: bool = True
    ) -> Run:
        """Draw K times from the guide, and run the model at the draws, with gradients.

        With ``paths=False`` the draws are constants: log-probabilities follow the parameters alone.
        """
        pair: Any = None
        nesting, particles = self.max_plate_nesting, self.num_particles
        pair = self._runs.traces(model, guide, args, kwargs, (particles, -1 - nesting), not paths)
        of_model, of_guide = traces(model, guide, args, kwargs, particles, nesting, paths) if pair is None else pair
        return Run(of_model, of_guide, particles, nesting, checked=pair is not None)

    def redraw(
        self,
        model: Program,
        guide: Program,
        run: Run,
        before: RandomState,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Run:
        """Run the programs again with the same draws as constants, so that log-probabilities follow the parameters alone.

        The programs start from the random state before the first run and draw their sites too, so that whatever else they
        draw (dropout's masks) comes out the same.
        """
        before.restore()
        with _Held(run.guide_trace):
            pair = traces(model, guide, args, kwargs, self.num_particles, self.max_plate_nesting)
        return Run(*pair, self.num_particles, self.max_plate_nesting)


class _Held(Messenger):
    """Replaces draws by those of an earlier run, as constants, after they have used up their random numbers."""

    def __init__(self, trace: Any) -> None:
        super().__init__()
        self._values = {name: site["value"].detach() for name, site in sites(trace)}

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self._values:
            msg["value"] = self._values[msg["name"]]


class Scaled(NamedTuple):
    """One loss per row, and its factor: one number, or one per row."""

    losses: Tensor
    scale: float | Tensor


def with_value(value: Tensor, surrogate: Tensor) -> Tensor:
    """A tensor with the given value and the gradient of the surrogate."""
    return value.detach() + surrogate - surrogate.detach()
