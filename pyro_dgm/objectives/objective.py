"""What ``fit`` needs of a training criterion: the loss of a batch, parameter groups, and a state to save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor, nn

from ..inference.registration import unregistered


class Turn(NamedTuple):
    """One loss of a batch, and the parameters that a step moves by it.

    Attributes:
        name: what its loss is called in reports.
        loss: computes the mean loss of the batch.
        groups: the names of the parameter groups that are moved; None moves all.
    """

    name: str
    loss: Callable[[], Tensor]
    groups: tuple[str, ...] | None = None


class Objective(ABC):
    """A training criterion of a model. One instance trains one model.

    Most criteria are one ``loss``. A criterion of several losses per batch, as of two players, says its ``turns`` instead: each
    is computed, differentiated and stepped in turn, by one optimiser that moves the groups that the turn names. Networks of the
    criterion's own (a discriminator) are ``owned``.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.loss is Objective.loss and cls.turns is Objective.turns:
            raise TypeError(
                f"{cls.__name__} has neither a loss nor turns; define loss(x), or turns(x) for several losses"
            )

    @abstractmethod
    def attach(self, model: Any) -> None:
        """Bind the model that is to be trained; called once, before training."""

    def loss(self, x: Tensor) -> Tensor:
        """The mean loss of a batch, in nats per row.

        Raises:
            ValueError: the criterion has a loss for each of its turns.
        """
        raise ValueError(f"{type(self).__name__} has no single loss; see its turns(x)")

    def turns(self, x: Tensor) -> Iterator[Turn]:
        """The losses of a batch, in the order of their steps; by default ``loss`` alone, which moves everything."""
        yield Turn("loss", lambda: self.loss(x))

    def owned(self) -> dict[str, nn.Module]:
        """Modules that belong to the criterion and not to the model, by name; by default none.

        Their parameters are trained as groups of these names, and runs on disk keep their parameters and buffers.
        """
        return {}

    def schedule(self, share: float) -> None:
        """Told at every epoch's start how much of the training is over, from 0 to 1."""
        return None

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The optimiser's parameter groups; by default ``"model"``, with all its parameters, and one for every owned module.

        A group may have a ``"rate"``, by which ``fit`` multiplies the learning rate.
        """
        own = [{"params": list(module.parameters()), "name": name} for name, module in self.owned().items()]
        return [{"params": list(model.parameters()), "name": "model"}, *own]

    def options(self) -> dict[str, Any]:
        """What a run on disk says of its criterion; a resumed run must say the same."""
        return {"objective": type(self).__name__}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs of the criterion (persistent chains, say); by default the owned modules."""
        return {name: module.state_dict() for name, module in self.owned().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name, module in self.owned().items():
            module.load_state_dict(state[name])


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
        return {**super().options(), **described(self.elbo), "particles": self.elbo.num_particles}

    def attach(self, model: Any) -> None:
        place(self.elbo, model)
        self._module = self.elbo(model.model, model.guide)

    def loss(self, x: Tensor) -> Tensor:
        with unregistered():
            return self._module(x) / len(x)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return super().parameter_groups(model) + own_groups(self.elbo)

    def state_dict(self) -> dict[str, Any]:
        return self.elbo.state_dict() if isinstance(self.elbo, Stateful) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.elbo, Stateful):
            self.elbo.load_state_dict(state)


def described(elbo: ELBO) -> dict[str, Any]:
    """What a run on disk says of an estimator."""
    return {"elbo": type(elbo).__name__, **(elbo.options() if isinstance(elbo, Stateful) else {})}


def place(elbo: ELBO, model: nn.Module) -> None:
    """Move an estimator's own parameters to where those of the model are."""
    if isinstance(elbo, Stateful):
        elbo.to(next(model.parameters()))


def own_groups(elbo: ELBO) -> list[dict[str, Any]]:
    """A parameter group of the estimator's own, where it has parameters."""
    own = elbo.own_parameters() if isinstance(elbo, Stateful) else []
    return [{"params": own}] if own else []
