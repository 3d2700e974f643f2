"""The interface of a layer of units: an exponential family in natural parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from ...checks import shown


class Unit(ABC):
    r"""A layer of independent *atoms*, each with density $\exp(\langle\eta, T(x)\rangle - A(\eta))$.

    An atom is drawn as a whole: one binary unit, or one categorical variable (a one-hot row). ``shape`` is the
    event shape of the layer; its first dimensions count atoms, the last ``inner_dim`` lie inside an atom.

    Natural parameters come as one tensor per statistic, each ``batch_shape x statistic shape``; all results are in nats.
    A subclass states ``statistics``, ``inner_dim`` and ``support`` and fills in the methods below. A subclass with entries on
    the whole real line also states the ``degrees`` of its statistics in them: a linear one first and its square second, as
    (1, 2). It states ``gated`` where the first entry of an atom is a spike that switches the linear statistic of the others.
    Its couplings are then checked for a normaliser. It states ``pooled`` where the sum of a statistic over an atom's entries
    is the state of a pooling unit, and ``switches``, the entries of an atom that are 0 or 1 and may all be 0, so that the mean
    of the first statistic says how often each is on.
    """

    statistics: ClassVar[tuple[str, ...]]
    inner_dim: ClassVar[int] = 0
    support: ClassVar[constraints.Constraint]
    degrees: ClassVar[tuple[int, ...]] = ()
    gated: ClassVar[bool] = False
    pooled: ClassVar[bool] = False
    switches: ClassVar[slice] = slice(0)

    def __init__(self, *shape: int) -> None:
        if len(shape) <= self.inner_dim or any(type(n) is not int or n < 1 for n in shape):
            raise ValueError(
                f"{type(self).__name__} got shape {shown(shape)}; expected at least {self.inner_dim + 1} positive integers, "
                f"as in {type(self).__name__}({', '.join(['784', '10'][: self.inner_dim + 1])})"
            )
        self.shape = torch.Size(shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.shape))})"

    @property
    def atoms(self) -> int:
        """The number of atoms."""
        return self.shape[: len(self.shape) - self.inner_dim].numel()

    @property
    def event_dim(self) -> int:
        """The number of dimensions of one state of the layer."""
        return len(self.shape)

    @abstractmethod
    def T(self, x: Tensor) -> tuple[Tensor, ...]:
        """The sufficient statistics of ``x``, one tensor per name in ``statistics``."""

    @abstractmethod
    def A(self, *eta: Tensor) -> Tensor:
        """The log-partition function of every atom: ``batch_shape x atoms``."""

    def summed_A(self, dims: int, *eta: Tensor) -> Tensor:
        """``A`` summed over all atoms, which take up the last ``dims`` dimensions: ``batch_shape``."""
        atoms = self.A(*eta)
        return (atoms if dims == 1 else atoms.flatten(-dims)).sum(-1)

    @abstractmethod
    def mean(self, *eta: Tensor) -> tuple[Tensor, ...]:
        """The mean statistics, which are the gradient of ``A``."""

    @abstractmethod
    def sample(self, *eta: Tensor, overwrite: bool = False) -> Tensor:
        """One state per row of natural parameters, without gradient. With ``overwrite`` it may take their memory."""

    @abstractmethod
    def sample_clamped(self, eta: Sequence[Tensor], mask: Tensor, value: Tensor) -> Tensor:
        """A state drawn given that it equals ``value`` where ``mask`` holds."""

    def check_clamp(self, mask: Tensor, value: Tensor) -> str | None:
        """The reason why known entries, each within the support, do not fit together in an atom; None where they do."""
        return None

    @abstractmethod
    def natural_from_mean(self, *mean: Tensor) -> tuple[Tensor, ...]:
        """The natural parameters with the given mean statistics (kept away from the boundary)."""

    def natural_from_rows(self, x: Tensor) -> tuple[Tensor, ...]:
        """The natural parameters of independent units that fit states of the layer, ``rows x shape``."""
        return self.natural_from_mean(*(t.mean(0) for t in self.T(x)))

    @abstractmethod
    def check(self, *eta: Tensor) -> str | None:
        """The reason why these natural parameters have no normaliser; None where they have one."""

    @abstractmethod
    def neutral(self, like: Tensor) -> tuple[Tensor, ...]:
        """Natural parameters of a featureless layer, on the dtype and device of ``like``."""

    def featureless(self, *eta: Tensor) -> tuple[Tensor, ...]:
        """``neutral`` parameters, of the scale of the given ones where entries are real; without a batch shape."""
        return self.neutral(eta[0].detach())

    def about(self, location: Tensor) -> Unit:
        """The same units, with squares of real entries about a location where they have an origin."""
        return self

    def no_narrower(self, eta: tuple[Tensor, ...], than: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The parameters with real entries at the same place, and spread at least as widely as by others; else unchanged."""
        return eta

    @property
    @abstractmethod
    def states_per_atom(self) -> int | None:
        """The number of states of an atom; None where they cannot be listed."""

    @abstractmethod
    def atom_states(self, like: Tensor) -> Tensor:
        """Every state of one atom: ``states_per_atom x inner shape``."""

    @property
    def real_entries(self) -> range:
        """The flat entries of an atom that are on the whole real line."""
        width = self.shape[len(self.shape) - self.inner_dim :].numel()
        return range(int(self.gated), width) if self.degrees else range(0)

    def real_from_origin(self, offset: Tensor) -> Tensor:
        """States of the layer whose real-valued entries lie at an offset from where the unit's squares are taken."""
        return offset

    def finite_states(self, like: Tensor) -> Tensor:
        """Every state of an atom's finite entries, with its real-valued entries at zero: ``states x inner shape``."""
        if not self.degrees:
            return self.atom_states(like)
        states = like.new_zeros(2 if self.gated else 1, *self.shape[len(self.shape) - self.inner_dim :])
        if self.gated:
            states[1, 0] = 1
        return states


class ScalarUnit(Unit):
    """A unit whose atoms are single numbers, so that clamping is overwriting."""

    inner_dim = 0

    def sample_clamped(self, eta: Sequence[Tensor], mask: Tensor, value: Tensor) -> Tensor:
        return torch.where(mask, value, self.sample(*eta))


def widest(square: Tensor, event_dim: int) -> Tensor:
    """Coefficients of squares of a layer, the ones nearest to zero of a batch, without gradient."""
    return square.detach().reshape(-1, *square.shape[square.dim() - event_dim :]).amax(0)
