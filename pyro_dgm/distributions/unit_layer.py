"""A layer of independent units as a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from ..energy import Unit


class UnitLayer(TorchDistribution):
    r"""Independent units in natural parameters, $\prod_i \exp(\langle \eta_i, T(x_i) \rangle - A(\eta_i))$.

    Unlike a Boltzmann machine it needs no negative phase: its normaliser is known and differentiable. It serves belief networks
    with layers for which Pyro has no distribution, such as pooling regions.

    Args:
        unit: the layer's kind and shape.
        eta: natural parameters, one tensor per statistic, ``batch_shape x layer shape``.

    Example:
        >>> import torch
        >>> from pyro_dgm.energy import AtMostOne
        >>> layer = UnitLayer(AtMostOne(2, 4), (torch.zeros(3, 2, 4),))
        >>> layer.sample().shape, layer.log_prob(torch.zeros(3, 2, 4)).shape
        (torch.Size([3, 2, 4]), torch.Size([3]))
    """

    arg_constraints: dict[str, Any] = {}

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.unit.support, self.unit.event_dim - self.unit.inner_dim)

    def __init__(self, unit: Unit, eta: Sequence[Tensor], validate_args: bool | None = None) -> None:
        self.unit = unit
        self.eta = torch.broadcast_tensors(*eta) if len(eta) > 1 else tuple(eta)
        batch = self.eta[0].shape[: self.eta[0].dim() - unit.event_dim]
        super().__init__(batch, unit.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> UnitLayer:
        shape = (*batch_shape, *self.unit.shape)
        return UnitLayer(self.unit, [e.expand(shape) for e in self.eta], self._validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean of the first statistic."""
        return self.unit.mean(*self.eta)[0]

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        dims = self.unit.event_dim
        terms = sum((e * t).flatten(-dims).sum(-1) for e, t in zip(self.eta, self.unit.T(value), strict=True))
        return terms - self.unit.summed_A(dims - self.unit.inner_dim, *self.eta)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (*sample_shape, *self.eta[0].shape)
        return self.unit.sample(*(e.expand(shape).contiguous() for e in self.eta))
