"""The interface of training criteria under ``fit``: the loss of a batch, parameter groups, and a state to save."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor, nn

from ..checks import check_positive, check_share
from ..inference.registration import unregistered
from .elbo_steps import ElboSteps


class Turn(NamedTuple):
    """One loss of a batch, and the parameters that its step moves.

    Attributes:
        name: the name of the loss in reports.
        loss: computes the mean loss of the batch.
        groups: the names of the parameter groups that are moved; None moves all groups.
    """

    name: str
    loss: Callable[[], Tensor]
    groups: tuple[str, ...] | None = None


class Objective(ABC):
    """A training criterion of a model. One instance trains one model.

    Most criteria are one ``loss``. A criterion with several losses per batch (two players, say) defines ``turns`` instead:
    each loss is computed, differentiated and stepped in turn, by one optimiser that moves the groups that the turn names.
    Networks that belong to the criterion (a discriminator, say) are returned by ``owned``.

    Attributes:
        arguments: the arguments of the model's ``objective`` that made it, as plain data, where they are known.
        fewest_rows: the rows below which a batch tells nothing; ``fit`` leaves a smaller last batch out.
        needs_whole_rows: the reason why it takes no rows with missing values (NaN), whatever the model; None where it does.
    """

    arguments: dict[str, Any] | None = None
    fewest_rows: int = 1
    needs_whole_rows: str | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.loss is Objective.loss and cls.turns is Objective.turns:
            raise TypeError(
                f"{cls.__name__} has neither a loss nor turns; define loss(x), or turns(x) for several losses"
            )

    @abstractmethod
    def attach(self, model: Any) -> None:
        """Bind the model that is to be trained; called once, before training."""

    def check_fit(self, model: Any, rows: int, batch_size: int, epochs: int) -> None:
        """Raise ``ValueError`` where a model cannot be trained by such batches of so many rows; by default all can."""
        return None

    def ill_with(self, optimiser: str) -> str | None:
        """The reason why an optimiser of ``fit``, named, trains badly by this criterion, and what to do; None by default."""
        return None

    def judges(self) -> bool:
        """Whether the epoch may be judged the best one, or count against ``patience``; by default every one."""
        return True

    def loss(self, x: Tensor) -> Tensor:
        """The mean loss of a batch, in nats per row.

        Raises:
            ValueError: the criterion has turns, each with its own loss.
        """
        raise ValueError(f"{type(self).__name__} has no single loss; see its turns(x)")

    def turns(self, x: Tensor) -> Iterator[Turn]:
        """The losses of a batch, in the order of their steps; by default ``loss`` alone, which moves everything."""
        yield Turn(self.loss_name(), lambda: self.loss(x))

    def loss_name(self) -> str:
        """The name of the single loss in reports; ``"loss"`` unless it means something else than usual."""
        return "loss"

    def owned(self) -> dict[str, nn.Module]:
        """Modules that belong to the criterion and not to the model, by name; none by default.

        They must be there before ``attach``. ``fit`` trains their parameters as groups of these names, in training mode, and
        keeps their parameters and buffers in runs on disk, whatever a criterion does about its other state.
        """
        return {}

    def schedule(self, share: float) -> None:
        """Take note, at the start of every epoch, of the share of the training that is over, from 0 to 1."""
        return None

    def scheduled(self) -> bool:
        """Whether the number of epochs changes the course of each of them: a resumed run must then keep it."""
        return type(self).schedule is not Objective.schedule

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The optimiser's parameter groups but for owned modules; by default ``"model"``, with all its parameters.

        A group may have a ``"rate"``, a factor of the learning rate in ``fit``, and a ``"name"``, by default ``"model"``.
        """
        return [{"params": list(model.parameters()), "name": "model"}]

    def all_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """All groups of the optimiser, with their names: those of ``parameter_groups``, and one per owned module."""
        owned = [{"params": list(module.parameters()), "name": name} for name, module in self.owned().items()]
        return [{"name": "model", **group} for group in self.parameter_groups(model)] + owned

    def options(self) -> dict[str, Any]:
        """The description of the criterion in a run on disk; a resumed run must have the same."""
        return {"objective": type(self).__name__}

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs beside the owned modules (persistent chains, say); nothing by default."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        return None

    def owned_state(self) -> dict[str, Any]:
        """Parameters and buffers of the owned modules."""
        return {name: module.state_dict() for name, module in self.owned().items()}

    def load_owned_state(self, state: dict[str, Any]) -> None:
        """Restore what ``owned_state`` returned."""
        for name, module in self.owned().items():
            module.load_state_dict(state[name])


@runtime_checkable
class Stateful(Protocol):
    """An estimator that has parameters and a state."""

    def to(self, like: Tensor) -> None:
        """Move the estimator's parameters to the device and type of a model's parameter."""
        ...

    def own_parameters(self) -> list[nn.Parameter]:
        """The estimator's parameters, which are trained along with model and guide."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        ...

    def options(self) -> dict[str, Any]:
        """The description of the estimator in a run on disk."""
        ...


class Elbo(Objective):
    r"""Any Pyro ELBO, or an estimator of this package, over the model's programs.

    With a weight $\beta$ of the latents' terms the loss is $-E_q \log p(x \mid z) + \beta\, \mathrm{KL}(q \| p(z))$
    (Higgins et al. 2017), which a warm-up raises from near zero, so that latents are not switched off before the decoder uses
    them (Bowman et al. 2016; Sonderby et al. 2016). Since the KL term is not negative, minus the loss is a lower bound of
    $\log p(x)$ for $\beta \ge 1$, looser than the ELBO, and none for $\beta < 1$: histories call such a loss
    ``loss_no_bound``. Other figures (``valid_elbo``, ``dgm.log_likelihood``) have no weight.

    Args:
        elbo: the estimator; ``Trace_ELBO`` by default.
        kl_weight: $\beta$; the log-probabilities of all latent sites, in model and guide, are multiplied by it.
        kl_warmup: the share of the training, below 1, in which the weight rises linearly to ``kl_weight``, epoch by epoch.

    Raises:
        ValueError: a weight below 0, a share outside [0, 1), or either with an estimator of this package, whose weights are
            those of the model.

    Example:
        >>> import pyro_dgm as dgm
        >>> vae, x = dgm.VAE.example()
        >>> run = dgm.fit(vae, x, objective=dgm.Elbo(kl_warmup=0.5), epochs=3, progress=False)
        >>> "loss_no_bound" in run.history[-1]
        True
    """

    def __init__(self, elbo: ELBO | None = None, kl_weight: float = 1.0, kl_warmup: float = 0.0) -> None:
        self.elbo = Trace_ELBO(max_plate_nesting=1) if elbo is None else elbo
        check_positive("kl_weight", kl_weight, "the weight of the KL term", zero=True)
        check_share("kl_warmup", kl_warmup, "a share of the training", zero=True)
        self.kl_weight, self.kl_warmup = float(kl_weight), float(kl_warmup)
        if self._is_weighted() and isinstance(self.elbo, Stateful):
            raise ValueError(
                f"kl_weight and kl_warmup got {kl_weight!r} and {kl_warmup!r} with {type(self.elbo).__name__}, whose loss is no "
                "sum of a reconstruction and a KL term; take one of Pyro's, as in dgm.Elbo(kl_weight=...) or kind='elbo'"
            )
        self._weight = self.kl_weight

    def _is_weighted(self) -> bool:
        return self.kl_weight != 1 or self.kl_warmup > 0

    def options(self) -> dict[str, Any]:
        weights = {"kl_weight": self.kl_weight, "kl_warmup": self.kl_warmup} if self._is_weighted() else {}
        return {**super().options(), **described(self.elbo), "particles": self.elbo.num_particles, **weights}

    def loss_name(self) -> str:
        return "loss_no_bound" if self.kl_weight < 1 or self.kl_warmup > 0 else "loss"

    def schedule(self, share: float) -> None:
        """Set the weight: at the start of the warm-up a hundredth of the last one, so that no latent is left untrained."""
        risen = 1.0 if self.kl_warmup == 0 else min(max(share / self.kl_warmup, 0.01), 1.0)
        self._weight = self.kl_weight * risen

    def scheduled(self) -> bool:
        return self.kl_warmup > 0

    def attach(self, model: Any) -> None:
        place(self.elbo, model)
        self._steps = ElboSteps(self.elbo, model.model, model.guide)

    def loss(self, x: Tensor) -> Tensor:
        with unregistered():
            return self._steps(x, self._weight) / len(x)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return super().parameter_groups(model) + own_groups(self.elbo)

    def state_dict(self) -> dict[str, Any]:
        return self.elbo.state_dict() if isinstance(self.elbo, Stateful) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.elbo, Stateful):
            self.elbo.load_state_dict(state)


def described(elbo: ELBO) -> dict[str, Any]:
    """The description of an estimator in a run on disk."""
    return {"elbo": type(elbo).__name__, **(elbo.options() if isinstance(elbo, Stateful) else {})}


def place(elbo: ELBO, model: nn.Module) -> None:
    """Move an estimator's parameters to the device and type of the model's."""
    if isinstance(elbo, Stateful):
        elbo.to(next(model.parameters()))


def own_groups(elbo: ELBO) -> list[dict[str, Any]]:
    """The parameter group of an estimator, if it has parameters."""
    parameters = elbo.own_parameters() if isinstance(elbo, Stateful) else []
    return [{"params": parameters, "name": "estimator"}] if parameters else []
