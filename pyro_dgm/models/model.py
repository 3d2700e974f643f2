"""What every model is: a named PyroModule whose programs are modules of their own."""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import pyro
import torch
from pyro.nn import PyroModule
from pyro.nn.module import _Context
from torch import Tensor, nn
from torch.distributions import constraints

from ..objectives.objective import Objective
from ..objectives.registration import is_unregistered

_counts: Counter[str] = Counter()


def _unique(cls: type) -> str:
    """A name that no other instance of this process has, so that the parameter store never mixes two instances."""
    _counts[cls.__name__] += 1
    return f"{cls.__name__}_{_counts[cls.__name__]}"


class Program(nn.Module):
    """A model's Pyro program (its ``model`` or ``guide``) as a module that owns the model's parameters.

    Pyro registers parameters through modules; bound methods would train nothing, without an error.
    """

    def __init__(self, owner: Model, method: str) -> None:
        super().__init__()
        self.owner = owner
        self.method = method

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with self.owner._pyro_context:
            return getattr(self.owner, self.method)(*args, **kwargs)


class _AbstractPyroModule(type(PyroModule), ABCMeta):  # type: ignore[misc]
    """PyroModule's metaclass, with abstract methods."""


class Model(PyroModule, metaclass=_AbstractPyroModule):  # type: ignore[metaclass]
    """A generative model: it owns parameters, draws samples and knows a default objective.

    Every instance has a name of its own; deep copies get new ones.
    """

    def __init__(self) -> None:
        super().__init__(_unique(type(self)))
        self.fresh = True

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        # A context that has run refuses to be renamed, so the copy and its parts share a fresh one.
        memo[id(self._pyro_context)] = _Context()
        other.__dict__.update({key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
        other._pyro_set_supermodule(_unique(type(self)), other._pyro_context)
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for module in self.modules():
            if isinstance(module, PyroModule):
                module._pyro_context = _Context()
        self._pyro_set_supermodule(_unique(type(self)), self._pyro_context)

    def __getattr__(self, name: str) -> Any:
        if is_unregistered():
            found = self.__dict__.get("_parameters", {}).get(name)
            if found is None:
                found = self.__dict__.get("_modules", {}).get(name)
            if found is not None and not isinstance(found, PyroModule):
                return found
        return super().__getattr__(name)

    @classmethod
    @abstractmethod
    def example(cls) -> tuple[Self, Tensor]:
        """A tiny instance and a batch of data for it."""

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """``n`` draws from the model: ``n x event_shape``."""

    @abstractmethod
    def objective(self) -> Objective:
        """The objective that ``fit`` trains with unless it is given another; options are keyword arguments."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The arguments that build an equal instance; what is stored beside the weights."""

    @abstractmethod
    def check_data(self, x: Tensor) -> None:
        """Raise ``ValueError`` where ``x`` is no data for this model: wrong shape, NaN, values outside the support."""

    def initialise(self, x: Tensor) -> None:
        """Set parameters of a fresh model from data before its first ``fit``; by default nothing."""

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """Figures that tell whether training works, beyond the loss; by default none."""
        return {}


class ProbabilisticModel(Model):
    """A model with Pyro programs ``model(x)`` and ``guide(x)``, a data plate, an observed site ``"x"``, and a likelihood."""

    @property
    def model(self) -> Program:
        """The generative program: ``model(x=None, size=None)``."""
        return Program(self, "generate")

    @property
    def guide(self) -> Program:
        """The variational program, of the same arguments."""
        return Program(self, "infer")

    @abstractmethod
    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        """The generative program's body."""

    @abstractmethod
    def infer(self, x: Tensor | None = None, size: int | None = None) -> Any:
        """The guide's body."""

    @abstractmethod
    def impute(self, x: Tensor, known: Tensor, sweeps: int = 500) -> Tensor:
        """Means of the entries where ``known`` is False given the others: ``rows x event_shape``.

        Raises:
            ValueError: no rows of the model's shape, or fewer than two sweeps.
        """

    @abstractmethod
    def condition(self, x: Tensor, known: Tensor, draws: int = 100, warmup: int = 500, thinning: int = 1) -> Tensor:
        """Draws of the unknown entries given the known ones, as ``dgm.condition``: ``draws x rows x event_shape``."""

    def impute_with_details(self, x: Tensor, known: Tensor, sweeps: int = 500) -> tuple[Tensor, dict[str, Any]]:
        """What ``impute`` gives, and what is worth knowing about it (a method, an effective number of draws); here nothing."""
        return self.impute(x, known, sweeps=sweeps), {}

    @abstractmethod
    def evidence(self, x: Tensor, method: str | None = None, **options: Any) -> Evidence:
        """Per-row log-likelihoods (or bounds), with the error that all rows share."""


@dataclass(frozen=True)
class Evidence:
    """What a model knows of the log-likelihood of some rows, in nats.

    Attributes:
        values: one figure a row.
        kind: ``"exact"``, ``"estimate"``, ``"lower bound"`` or ``"upper bound"``.
        method: how they were found.
        stderr: the standard error of their mean that comes from the estimator.
        lower: shift of the mean to the interval's lower end (0 or negative).
        upper: shift to its upper end; infinite where nothing bounds it.
        details: further figures worth keeping.
    """

    values: Tensor
    kind: str
    method: str
    stderr: float
    lower: float
    upper: float
    details: dict[str, float]


class RowSupport(constraints.Constraint):
    """Rows of finite numbers, some of which are given (a length, a label), and others values of a distribution.

    Args:
        values: what those values can be.
    """

    event_dim = 1

    def __init__(self, values: constraints.Constraint | None) -> None:
        self.is_discrete = values is not None and values.is_discrete

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite().all(-1)


def check_rows(x: Tensor, event_shape: torch.Size, name: str) -> None:
    """Refuse data that are empty, of the wrong shape, or not finite."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} got data of type {type(x).__name__}; expected a tensor, rows x {tuple(event_shape)}")
    if x.dim() != 1 + len(event_shape) or x.shape[1:] != event_shape:
        raise ValueError(f"{name} got data of shape {tuple(x.shape)}; expected rows x {tuple(event_shape)}")
    if len(x) == 0:
        raise ValueError(f"{name} got empty data; expected at least one row")
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"{name} got NaN or infinite values, first in row {int(bad.nonzero()[0])}; drop or impute those rows"
        )


def not_finite(model: Model) -> str | None:
    """The first parameter with entries that are not finite, said as a reason; or None."""
    for name, parameter in model.named_parameters():
        if not parameter.detach().isfinite().all():
            return f"{name} has entries that are not finite"
    return None


BINARISE = (
    "Grey levels need a binarisation: name one, as in dgm.data.load('digits', binarisation='threshold') or "
    "--binarisation threshold"
)
"""What to do about grey levels given to a binary model."""


def check_support(x: Tensor, allowed: Callable[[Tensor], Tensor], name: str, expected: str, hint: str) -> None:
    """Refuse values outside a support, saying which."""
    outside = ~allowed(x)
    if outside.any():
        value = float(x[outside][0])
        raise ValueError(f"{name} got the value {value:g}; expected {expected}. {hint}")


def data_plate(rows: int, size: int | None) -> Any:
    """The data plate: ``rows`` that stand for ``size`` rows (their log-probabilities are scaled by size / rows)."""
    if size is None or size == rows:
        return pyro.plate("data", rows)
    if size < rows:
        raise ValueError(
            f"size got {size}, fewer than the {rows} rows given; pass the number of rows of the whole data"
        )
    return pyro.plate("data", size, subsample=torch.arange(rows))
