"""Energy-based models as Pyro distributions."""

from __future__ import annotations

import cmath
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor

from ..checks import described, other_precision, shown
from ..native import out_of_autocast
from .enumeration import NotEnumerable
from .figure import LogPartition
from .machine import State
from .support import in_support, unfit

Terms = Callable[["EnergyDistribution", Tensor], tuple[Tensor, Tensor]]
"""From a distribution and a value to F(x) and log Z."""


class NegativePhaseError(RuntimeError):
    """A gradient was asked of a log-partition function that has none."""


class NotFinite(ValueError):
    """Parameters that are NaN or infinite."""


class NoNormaliser(NotFinite):
    """Raised where parameters leave a distribution without a normaliser: a precision that is not positive, say."""


_HOW = (
    "wrap the program, as in SVI(dgm.negative_phase(model, dgm.PCD()), guide, ...), or with "
    "dgm.ExactNegativePhase() where the machine is small; for dgm.fit take "
    "objective=dgm.NegativePhaseObjective(dgm.PCD(), elbo=...), with elbo=dgm.VIMCO(5) where latents are bits"
)


class EnergyDistribution(TorchDistribution, ABC):
    r"""A distribution known by its energy: $p(x) = e^{-F(x)} / Z$.

    ``log_prob`` is $-F(x) - \log Z$. The value of $\log Z$ comes from the terms that a negative phase binds, from
    ``with_log_partition``, or from exact enumeration, in this order. No annealing is ever run silently.
    """

    has_rsample = False
    visible = "visible"
    parameter_batch_shape = torch.Size()
    known: Mapping[str, Tensor] = MappingProxyType({})
    """States of layers that are given, whose conditional law draws and kernels follow."""

    def __init__(self, batch_shape: torch.Size, event_shape: torch.Size, validate_args: bool | None = None) -> None:
        self._terms: Terms | None = None
        self._sampler: Callable[[torch.Size], Tensor] | None = None
        self._log_partition: Tensor | None = None
        self._inside_program = am_i_wrapped()
        super().__init__(batch_shape, event_shape, validate_args=validate_args)
        if self._validate_args:
            self.check_finite()

    def unconditional(self) -> EnergyDistribution:
        """The law of all layers, of which this is a conditional where layers are given; log Z is that of this law."""
        return self

    @abstractmethod
    def energy(self, state: Mapping[str, Tensor]) -> Tensor:
        """The energy of a joint state, in nats: ``batch_shape``."""

    @abstractmethod
    def free_energy(self, x: Tensor) -> Tensor:
        r"""$F(x) = -\log\sum_h e^{-E(x,h)}$, in nats: ``batch_shape``."""

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The event shape of every layer of a joint state."""
        return {self.visible: self.event_shape}

    def whole(self, value: Tensor) -> Tensor:
        """A value in the parameters' precision, if it came out of ``torch.autocast`` in half precision.

        Raises:
            ValueError: it has another precision, or holds integers or booleans.
        """
        own = next(iter(self.parameters()), value).dtype
        if value.dtype in (torch.bfloat16, torch.float16):
            return value.to(own)
        if value.dtype != own:
            raise ValueError(other_precision(value.dtype, own))
        return value

    def misfit(self, layer: str, state: Tensor) -> str | None:
        """The reason why a tensor is no state of a layer, whatever its dimensions in front; None where it is one."""
        return unfit(state)

    @property
    def restricted(self) -> bool:
        """Whether the free energy of visible rows takes one pass, as it does where hidden units are independent."""
        return True

    @property
    def layered(self) -> bool:
        """Whether it is made of layers of units, which can be drawn, centred, annealed, and moved by fast weights."""
        return False

    def collapsed(self, state: Mapping[str, Tensor]) -> Tensor:
        """The log-probability of a state up to log Z; units are summed out where that lowers the variance."""
        return -self.free_energy(state[self.visible])

    def around(self, x: Tensor) -> State:
        """A joint state around visible rows, from which chains may start."""
        return {self.visible: x}

    @abstractmethod
    def exact_log_partition(self) -> Tensor:
        """Log Z with its gradient.

        Raises:
            NotEnumerable: there are too many states to list, or no known integral.
        """

    @abstractmethod
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors that the energy depends on."""

    @abstractmethod
    def parameter_names(self) -> list[str]:
        """The names of ``parameters()`` in messages, in the same order."""

    def check_finite(self) -> None:
        """Refuse parameters that are NaN or infinite.

        Raises:
            NotFinite: some are; the message names the first.
        """
        with torch.no_grad():
            # One sum is cheap. It is finite only if all entries are; if it overflowed, the loop below finds nothing.
            if cmath.isfinite(torch.as_tensor(sum(p.sum() for p in self.parameters())).item()):
                return
            for name, parameter in zip(self.parameter_names(), self.parameters(), strict=True):
                bad = parameter[~parameter.isfinite()]
                if len(bad):
                    raise NotFinite(
                        f"{name} holds {float(bad[0]):g} ({len(bad)} of its {parameter.numel()} entries are NaN or infinite); "
                        "expected finite numbers. Go back to the last good checkpoint, or train with a smaller learning rate"
                    )

    @abstractmethod
    def _copy(self, batch_shape: torch.Size) -> EnergyDistribution:
        """The same distribution with another batch shape, without log Z."""

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> EnergyDistribution:
        """The same distribution with a larger batch shape; the parameters, and so log Z, stay shared."""
        other = self._copy(torch.Size(batch_shape))
        other._terms, other._log_partition = self._terms, self._log_partition
        other._sampler = self._sampler
        other._inside_program = self._inside_program
        return other

    @property
    def normalised(self) -> bool:
        """Whether log Z was bound, by terms or as a number."""
        return self._terms is not None or self._log_partition is not None

    @property
    def mean(self) -> Tensor:
        """$E[x]$ where it can be summed exactly: ``batch_shape x event_shape``.

        Raises:
            NotImplementedError: it cannot.
        """
        raise NotImplementedError(f"the mean of a {type(self).__name__} cannot be summed exactly; average draws")

    @property
    def variance(self) -> Tensor:
        """The variance of every entry, as ``mean``."""
        raise NotImplementedError(f"the variance of a {type(self).__name__} cannot be summed exactly; use draws")

    def entropy(self) -> Tensor:
        """The entropy in nats where it can be summed exactly: ``batch_shape``.

        Raises:
            NotImplementedError: it cannot.
        """
        raise NotImplementedError(
            f"the entropy of a {type(self).__name__} cannot be summed exactly; average -log_prob over draws"
        )

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, ``values x batch_shape x event_shape``, where they can be listed.

        Args:
            expand: False for a batch shape of ones.

        Raises:
            NotImplementedError: they cannot.
        """
        raise NotImplementedError(f"the values of a {type(self).__name__} cannot be listed; use draws")

    def with_terms(self, terms: Terms, sampler: Callable[[torch.Size], Tensor] | None = None) -> EnergyDistribution:
        """A copy whose F(x) and log Z are ``terms(distribution, value)``; negative phases use it.

        With a ``sampler`` the copy draws by it: from a phase's persistent chains, for example.
        """
        other = self.expand(self.batch_shape)
        other._terms, other._sampler = terms, sampler
        return other

    def with_log_partition(self, value: Tensor | float | LogPartition) -> EnergyDistribution:
        """A copy with a known log Z, so that ``log_prob`` has a value; it cannot be trained through.

        Raises:
            ValueError: log Z is no finite number.
        """
        other = self.expand(self.batch_shape)
        number = value.value if isinstance(value, LogPartition) else value
        try:
            tensor = torch.as_tensor(number).detach()
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"log Z got {shown(number)}; expected a number, or what dgm.log_partition returns"
            ) from None
        if reason := unfit(tensor):
            raise ValueError(f"log Z got {shown(number)}: it {reason}")
        other._log_partition = tensor.to(self.parameters()[0])
        return other

    @out_of_autocast
    def log_prob(self, value: Tensor) -> Tensor:
        r"""$-F(x) - \log Z$ in nats: the batch shape of the value broadcast with ``batch_shape``.

        Raises:
            NegativePhaseError: log Z is not known and there are too many states to list; or, at ``backward``,
                the gradient of log Z was needed and no negative phase was bound.
            ValueError: values outside the support, or of another precision than the parameters.
        """
        if not isinstance(value, Tensor):
            raise ValueError(f"log_prob got {described(value)}; expected a tensor of rows")
        if value.is_complex():
            raise ValueError(f"log_prob got complex numbers, {value.dtype}; expected real ones")
        value = self.whole(value)
        fits = value.shape[value.dim() - len(self.event_shape) :] == self.event_shape
        if self._validate_args and not (fits and in_support(self.support, value)):
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[: value.dim() - len(self.event_shape)], self.batch_shape)
        if self._terms is not None:
            free_energy, log_z = self._terms(self, value)
        else:
            free_energy, log_z = self.free_energy(value), self._log_z()
        return (-free_energy - log_z).expand(shape)

    def _log_z(self) -> Tensor:
        if self._log_partition is not None:
            return without_gradient(self._log_partition, self.parameters(), f"log Z was attached as a number; {_HOW}")
        try:
            log_z = self.exact_log_partition()
        except NotEnumerable as error:
            raise NegativePhaseError(
                f"log_prob needs log Z, and {error}. To score data attach a value, as in "
                f"dist.with_log_partition(dgm.log_partition(dist, method='ais')); to train, {_HOW}"
            ) from None
        if not self._inside_program:
            return log_z
        return without_gradient(
            log_z.detach(), self.parameters(), f"an energy-based site was trained without a negative phase; {_HOW}"
        )


class _Refuse(torch.autograd.Function):
    """A constant that raises when a gradient is asked of it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, message: str, *parameters: Tensor) -> Tensor:
        ctx.message = message
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NegativePhaseError(ctx.message)


def without_gradient(value: Tensor, parameters: Sequence[Tensor], message: str) -> Tensor:
    """``value`` as a function of ``parameters`` whose gradient is refused with ``message``."""
    return _Refuse.apply(value, message, *parameters)
