"""What ``fit`` needs of a training criterion: the loss of a batch, parameter groups, and a state to save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor, nn

from ..inference.registration import unregistered


class Objective(ABC):
    """A training criterion of a model. One instance trains one model."""

    @abstractmethod
    def attach(self, model: Any) -> None:
        """Bind the model that is to be trained; called once, before training."""

    @abstractmethod
    def loss(self, x: Tensor) -> Tensor:
        """The mean loss of a batch, in nats a row."""

    def schedule(self, share: float) -> None:
        """Told at every epoch's start how much of the training is over, from 0 to 1."""
        return None

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The optimiser's parameter groups; by default one, with all parameters of the model.

        A group may have a ``"rate"``, by which ``fit`` multiplies the learning rate.
        """
        return [{"params": list(model.parameters())}]

    def options(self) -> dict[str, Any]:
        """What a run on disk says of its criterion; a resumed run must say the same."""
        return {"objective": type(self).__name__}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs of the criterion (persistent chains, say); by default nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        return None


@runtime_checkable
class Stateful(Protocol):
    """An estimator with parameters and a state of its own."""

    def to(self, like: Tensor) -> None:
        """Move what it owns to the device and type of a model's parameter."""
        ...

    def own_parameters(self) -> list[nn.Parameter]:
        """What is trained along with model and guide."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        ...

    def options(self) -> dict[str, Any]:
        """What a run on disk says of it."""
        ...


class Elbo(Objective):
    """Any Pyro ELBO, or estimator of this package, over the model's own programs.

    Args:
        elbo: the estimator; ``Trace_ELBO`` by default.
    """

    def __init__(self, elbo: ELBO | None = None) -> None:
        self.elbo = Trace_ELBO(max_plate_nesting=1) if elbo is None else elbo

    def options(self) -> dict[str, Any]:
        return {**super().options(), **_described(self.elbo), "particles": self.elbo.num_particles}

    def attach(self, model: Any) -> None:
        _place(self.elbo, model)
        self._module = self.elbo(model.model, model.guide)

    def loss(self, x: Tensor) -> Tensor:
        with unregistered():
            return self._module(x) / len(x)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return super().parameter_groups(model) + _own_groups(self.elbo)

    def state_dict(self) -> dict[str, Any]:
        return self.elbo.state_dict() if isinstance(self.elbo, Stateful) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.elbo, Stateful):
            self.elbo.load_state_dict(state)


def _described(elbo: ELBO) -> dict[str, Any]:
    return {"elbo": type(elbo).__name__, **(elbo.options() if isinstance(elbo, Stateful) else {})}


def _place(elbo: ELBO, model: nn.Module) -> None:
    """Move an estimator's own parameters to where those of the model are."""
    if isinstance(elbo, Stateful):
        elbo.to(next(model.parameters()))


def _own_groups(elbo: ELBO) -> list[dict[str, Any]]:
    """A parameter group of the estimator's own, where it has parameters."""
    own = elbo.own_parameters() if isinstance(elbo, Stateful) else []
    return [{"params": own}] if own else []
