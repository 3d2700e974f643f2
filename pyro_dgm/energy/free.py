"""Distributions known by a free energy alone: real-valued visible units without a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import constraints

from .distribution import EnergyDistribution
from .enumeration import NotEnumerable

Sampler = Callable[["FreeEnergyDistribution", torch.Size, int], Tensor]
"""From a distribution, a shape and a number of steps to draws, ``shape x event_shape``."""


class FreeEnergyDistribution(EnergyDistribution):
    r"""$p(x) = e^{-F(x)} / Z$ over real vectors, for any differentiable $F$ (18.1-2, as in 20.43-49).

    Such a distribution has no layers to sweep over: ``dgm.HMC`` moves it, log Z is found by annealing alone, and negative
    phases train it. Shapes: ``batch_shape`` comes from ``expand``, which shares the parameters.

    Args:
        free_energy: from ``batch_shape x event_shape`` to F in nats, ``batch_shape``; differentiable in x and in the
            parameters.
        parameters: the tensors that F depends on, by name if messages are to name them.
        event_shape: the shape of one x.
        energy: from a joint state ``{layer: batch_shape x layer shape}`` to $E(x, h)$, ``batch_shape``, where there are
            hidden units; by default F of the visible layer.
        sampler: the function that ``sample`` calls.
        validate_args: as in every torch distribution.

    Raises:
        ValueError: no parameters, or an event without dimensions; with ``validate_args``, parameters that are not
            finite (``NotFinite``).

    Example:
        >>> import torch
        >>> scale = torch.tensor(2.0)
        >>> dist = FreeEnergyDistribution(lambda x: scale * (x**2).sum(-1), (scale,), (3,))
        >>> dist.with_log_partition(0.0).log_prob(torch.ones(3))
        tensor(-6.)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        free_energy: Callable[[Tensor], Tensor],
        parameters: Sequence[Tensor] | Mapping[str, Tensor],
        event_shape: Sequence[int],
        energy: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
        sampler: Sampler | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not parameters:
            raise ValueError("parameters got nothing; expected the tensors that the free energy depends on")
        if not event_shape:
            raise ValueError("event_shape got (); expected the shape of one x, as in (64,)")
        self._free_energy, self._energy, self._draw = free_energy, energy, sampler
        if not isinstance(parameters, Mapping):
            parameters = {f"parameter {number}": parameter for number, parameter in enumerate(parameters)}
        self._names, self._parameters = list(parameters), tuple(parameters.values())
        super().__init__(torch.Size(), torch.Size(event_shape), validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        """The constraint that values satisfy."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def parameters(self) -> tuple[Tensor, ...]:
        return self._parameters

    def parameter_names(self) -> list[str]:
        return self._names

    def _copy(self, batch_shape: torch.Size) -> FreeEnergyDistribution:
        other = object.__new__(type(self))
        other._free_energy, other._energy, other._draw = self._free_energy, self._energy, self._draw
        other._parameters, other._names = self._parameters, self._names
        EnergyDistribution.__init__(other, batch_shape, self.event_shape, validate_args=False)
        other._validate_args = self._validate_args
        return other

    def energy(self, state: Mapping[str, Tensor]) -> Tensor:
        """E of a joint state in nats, or F where there are no hidden units: ``batch_shape``."""
        if self._energy is None:
            return self.free_energy(state[self.visible])
        try:
            return self._energy(state)
        except KeyError as missing:
            raise ValueError(f"the state lacks the layer {missing}; it has {sorted(state)}") from None

    def free_energy(self, x: Tensor) -> Tensor:
        """F of visible rows in nats: ``batch_shape``."""
        return self._free_energy(x)

    def exact_log_partition(self) -> Tensor:
        raise NotEnumerable(
            "there is only a free energy over real vectors, which cannot be summed (a model's log_partition anneals)"
        )

    def sample(self, sample_shape: Sequence[int] = (), sweeps: int = 100) -> Tensor:
        """The ends of independent chains.

        Args:
            sample_shape: the shape of the draws.
            sweeps: the length of each chain; nothing is claimed of its convergence (run ``dgm.VectorizedMCMC`` and read
                R-hat).

        Returns:
            ``sample_shape x batch_shape x event_shape``.

        Raises:
            ValueError: the distribution was made without a sampler.
        """
        if self._sampler is not None:
            return self._sampler(torch.Size(sample_shape) + self.batch_shape)
        if self._draw is None:
            raise ValueError(
                "this distribution has a free energy and no sampler; run "
                "dgm.VectorizedMCMC(dgm.HMC(dist), num_samples=..., num_chains=...)"
            )
        with torch.no_grad():
            return self._draw(self, torch.Size(sample_shape) + self.batch_shape, sweeps)
