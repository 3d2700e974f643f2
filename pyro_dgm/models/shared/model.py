"""The base of every model: a named PyroModule whose Pyro programs are themselves modules."""

from __future__ import annotations

import copy
import weakref
from abc import ABCMeta, abstractmethod
from collections import Counter, deque
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from pyro.nn.module import _Context
from pyro.params.param_store import param_with_module_name
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

from ...inference.light import rows_plate
from ...inference.random_state import untouched
from ...inference.registration import is_unregistered
from ...inference.sites import site_of_rows
from ...objectives.objective import Objective
from .abilities import Abilities
from .arguments import convert_arguments
from .blamed_rows import FAILURES, blame_rows

_counts: Counter[str] = Counter()

_gone: deque[str] = deque()
"""The names of models that are no more, whose parameters Pyro's store may still hold."""


def _named(model: Model) -> str:
    """A name that is unique in this process, so that the parameter store never mixes two instances.

    The store would keep every parameter that it has seen. Those of models that are gone leave it here, and not as soon as they
    go, which may be amid somebody's loop over the store.
    """
    _forget_the_gone()
    kind = type(model).__name__
    _counts[kind] += 1
    name = f"{kind}_{_counts[kind]}"
    weakref.finalize(model, _gone.append, name).atexit = False
    return name


def _forget_the_gone() -> None:
    """Remove the parameters of models that are no more from Pyro's store."""
    names = {_gone.popleft() for _ in range(len(_gone))}
    store = pyro.get_param_store()
    for parameter in [key for key in store if key.split("$$$")[0].split(".")[0] in names] if names else ():
        del store[parameter]


def _no_log_prob(model: Model) -> str:
    """What stands in for the ``log_prob`` that a model, taken for a distribution, was asked for."""
    kind = type(model).__name__
    if type(model).forward is nn.Module.forward:
        return (
            f"{kind} has no log_prob. Its Pyro programs are model.model and model.guide; dgm.log_likelihood(model, x) has its "
            "figure, or says what to use instead"
        )
    return (
        f"{kind} is a model, which has no log_prob. Call it for its distribution: model().log_prob(x), and in a program "
        'pyro.sample("x", model(), obs=x)'
    )


def _no_program(model: Model, name: str) -> str:
    """What stands in for a Pyro program that a model without one was asked for."""
    return (
        f"{type(model).__name__} has no program {name!r}, since its law is known by draws alone and Pyro has nothing to score. "
        "Train it by dgm.fit(model, data), and draw by model.sample(n)"
    )


class Program(nn.Module):
    """A model's Pyro program (its ``model`` or ``guide``) as a module that owns the model's parameters.

    Pyro registers parameters through modules: bound methods would train nothing and raise no error.

    Args:
        owner: the model.
        method: the name of the model's method that is the program's body.
        needs_rows: refuse to run without data.
    """

    def __init__(self, owner: Model, method: str, needs_rows: bool = False) -> None:
        super().__init__()
        self.owner = owner
        self.method = method
        self.needs_rows = needs_rows

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        rows = args[0] if args else kwargs.get("x")
        if self.needs_rows and rows is None:
            raise ValueError(
                f"the guide needs data: that of {type(self.owner).__name__} draws the latents of given rows. Pass rows, or run "
                "the model alone"
            )
        try:
            with self.owner._pyro_context:
                return getattr(self.owner, self.method)(*args, **kwargs)
        except FAILURES as error:
            blame_rows(self.owner, rows, error)
            raise


class _AbstractPyroModule(type(PyroModule), ABCMeta):  # type: ignore[misc]
    """PyroModule's metaclass, with abstract methods."""


class Model(Abilities, PyroModule, metaclass=_AbstractPyroModule):  # type: ignore[metaclass]
    """A generative model: it owns parameters, draws samples and knows a default objective.

    Parameters with ``requires_grad_(False)`` are frozen: no training moves them.

    Every instance has a unique name; deep copies get new ones. Methods that take rows or a number of them get tensors of the
    model's precision and whole numbers, whatever the caller has (``arguments``).

    Attributes:
        label_option: the option that counts the columns of a label (or of a code), which follow the visible ones in a row.
        takes_missing: whether it is trained and evaluated on rows with missing values (NaN), which it sums out; ``check_data``
            says where they may be.
        rounds_safely: whether the products of its networks may be computed in half precision while it is trained, because what
            is computed of their results stays in single precision.
        fresh: whether the model was never trained.
        own_networks: the class names of networks that a user gave in place of the model's, by argument.
    """

    label_option: ClassVar[str] = "classes"
    takes_missing: ClassVar[bool] = False
    rounds_safely: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        convert_arguments(cls)

    def __init__(self) -> None:
        super().__init__(_named(self))
        self.fresh = True
        self.own_networks: dict[str, str] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        # A context that has run refuses to be renamed, so the copy and its parts share a fresh one.
        memo[id(self._pyro_context)] = _Context()
        other.__dict__.update({key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
        other._pyro_set_supermodule(_named(other), other._pyro_context)
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for module in self.modules():
            if isinstance(module, PyroModule):
                module._pyro_context = _Context()
        self._pyro_set_supermodule(_named(self), self._pyro_context)

    def __getattr__(self, name: str) -> Any:
        if name == "log_prob":
            raise AttributeError(_no_log_prob(self))
        if name in ("model", "guide") and not hasattr(type(self), name):
            raise AttributeError(_no_program(self, name))
        value = self.__dict__.get("_parameters", {}).get(name)
        if value is None:
            value = self.__dict__.get("_modules", {}).get(name)
        if value is None or isinstance(value, PyroModule):
            return super().__getattr__(name)
        if is_unregistered():
            return value
        own = [value] if isinstance(value, Tensor) else list(value.parameters())
        if all(parameter.requires_grad for parameter in own):
            return super().__getattr__(name) if isinstance(value, Tensor) else self._registered_once(name, value)
        # Frozen parameters are none of Pyro's: its statement would thaw them, and its statement of modules warns of them.
        if self._pyro_context.active and isinstance(value, nn.Module):
            full = self._pyro_get_fullname(name)
            for inner, parameter in value.named_parameters():
                if parameter.requires_grad:
                    pyro.param(param_with_module_name(full, inner), parameter)
        return value

    def _registered_once(self, name: str, module: nn.Module) -> nn.Module:
        """A module whose parameters Pyro is told of once in a run of a program, and not at every reading of it."""
        context: Any = self._pyro_context
        key, handlers = f"{self._pyro_name}.{name}$$$registered", tuple(_PYRO_STACK)
        if context.get(key) != handlers:
            super().__getattr__(name)
            context.set(key, handlers)
        return module

    @classmethod
    def label_columns(cls, options: dict[str, Any], appended: int) -> int:
        """How many of a row's columns are no visible ones, of data to which columns of labels were ``appended``.

        Args:
            options: those that the model is to be made with.
            appended: the number of label columns that the data have for certain.
        """
        return appended

    @classmethod
    @abstractmethod
    def example(cls) -> tuple[Self, Tensor]:
        """A tiny instance and a batch of data for it."""

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """Draw ``n`` rows from the model: ``n x event_shape``."""

    @abstractmethod
    def objective(self) -> Objective:
        """The objective that ``fit`` uses by default; its options are keyword arguments."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The arguments that build an equal instance; they are stored beside the weights."""

    @abstractmethod
    def check_data(self, x: Tensor) -> None:
        """Raise ``ValueError`` where ``x`` is not data for this model: wrong shape, NaN, values outside the support."""

    def check_programs(self, x: Tensor) -> None:
        """Raise ``ValueError`` where the model's Pyro programs are not what training expects; by default there are none.

        Args:
            x: a few rows of data.
        """
        return None

    def filled(self, x: Tensor, sweeps: int = 1) -> Tensor:
        """Rows as a negative phase takes them: those of machines with every missing value (NaN) drawn given the known ones.

        By default unchanged: other models leave missing values out of their likelihood.

        Args:
            x: rows.
            sweeps: the length of the chains that draw.
        """
        return x

    def initialise(self, x: Tensor) -> None:
        """Set parameters of a fresh model from data, before its first ``fit``; by default none."""

    def settle(self, valid: Tensor) -> None:
        """Set what belongs to the trained weights and is measured on held-out rows, after every epoch; by default nothing."""
        return None

    def progress(self, train: Tensor, valid: Tensor) -> dict[str, float]:
        """Figures beyond the loss that show whether training works; by default none.

        The first one whose name begins with ``valid_`` tells which epoch is best: the larger it is, the better.
        """
        return {}


class ProbabilisticModel(Model):
    """A model with Pyro programs ``model(x)`` and ``guide(x)``, a data plate and an observed site ``"x"``.

    Attributes:
        guide_needs_rows: True where the guide is a function of rows and refuses to run without them.
    """

    guide_needs_rows: ClassVar[bool] = False

    @property
    def model(self) -> Program:
        """The generative program: ``model(x=None, size=None)``."""
        return Program(self, "generate")

    @property
    def guide(self) -> Program:
        """The variational program, of the same arguments."""
        return Program(self, "infer", self.guide_needs_rows)

    def data_plate(self, x: Tensor | None, size: int | None) -> AbstractContextManager[Any]:
        """The data plate of the rows, or of ``size`` rows to be drawn (one by default).

        Args:
            x: rows, or None.
            size: the number of rows that they stand for: log-probabilities are scaled by ``size / len(x)``.

        Raises:
            ValueError: a single row; a size below the number of rows.
        """
        if isinstance(x, Tensor) and x.dim() == 1:
            raise ValueError(
                f"{type(self).__name__} got {len(x)} numbers, as one row has; expected rows, as x.unsqueeze(0) has them"
            )
        rows = (size or 1) if x is None else len(x)
        if size is None or size == rows:
            return rows_plate(rows)
        if size < rows:
            raise ValueError(
                f"size got {size}, fewer than the {rows} rows given; pass the number of rows of the whole data"
            )
        return pyro.plate("data", size, subsample=torch.arange(rows))

    @torch.no_grad()
    def check_programs(self, x: Tensor) -> None:
        """Refuse a generative program whose site ``"x"`` is missing or not observed, or that leaves the rows out."""
        with untouched():
            site = site_of_rows(poutine.trace(self.model).get_trace(self.filled(x)))
        if not site["is_observed"]:
            raise ValueError(
                f"the site 'x' of {type(self).__name__} is drawn and not observed, so that nothing would be learned of the rows; "
                'observe them in generate(x): pyro.sample("x", ..., obs=x)'
            )

    def only_site(self) -> Any:
        """The distribution of the observed site where the programs are made of it alone; None by default, since few are."""
        return None

    @abstractmethod
    def generate(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        """The generative program's body."""

    def counterparts(self, x: Tensor) -> Tensor:
        """As many rows from the program as there are rows of data, with its gradient, for criteria that compare the two.

        A model of rows given some columns of them (labels) takes these over from the data.
        """
        return self.model(None, len(x))

    @abstractmethod
    def infer(self, *args: Any, **kwargs: Any) -> Any:
        """The guide's body: ``infer(x, size=None)``, where ``x`` may be None unless ``guide_needs_rows``."""

    @torch.no_grad()
    def measure(self, row: Tensor) -> str:
        """``"probability"`` where the support of the site ``"x"`` is discrete, else ``"density"``."""
        with untouched():
            row = self.filled(row)
            latents = poutine.trace(self.guide).get_trace(row)
            site = site_of_rows(poutine.trace(poutine.replay(self.model, trace=latents)).get_trace(row))
        fn: Any = site["fn"]
        return "probability" if fn.support.is_discrete else "density"
