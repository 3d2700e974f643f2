"""Rows that hold the states of several layers of a Boltzmann machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints

from ..energy import BoltzmannDistribution
from .around import Around


class LayerRows(Around):
    """Several layers of a machine side by side, the others summed out: a row's probability is that of their joint state.

    Args:
        machine: a machine without layers that are given; its visible layer is among those of the rows.
        layers: the layers, each of one dimension and all of one support, in the order of their columns.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rbm, _ = dgm.RBM.example()
        >>> rows = LayerRows(rbm(), ["hidden", "visible"])
        >>> rows.event_shape, rows.sample((3,)).shape
        (torch.Size([10]), torch.Size([3, 10]))
    """

    arg_constraints = {}

    def __init__(
        self, machine: BoltzmannDistribution, layers: Sequence[str], validate_args: bool | None = None
    ) -> None:
        self.machine, self.layers = machine, list(layers)
        self.sizes = [machine.shapes[layer].numel() for layer in layers]
        super().__init__(machine.batch_shape, torch.Size([sum(self.sizes)]), validate_args=validate_args)

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        """That of the visible layer."""
        return self.machine.support

    @property
    def inner(self) -> BoltzmannDistribution:
        return self.machine

    def around(self, inner: BoltzmannDistribution) -> LayerRows:
        return LayerRows(inner, self.layers, self._validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> LayerRows:
        return LayerRows(self.machine.expand(torch.Size(batch_shape)), self.layers, self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        state = dict(zip(self.layers, value.split(self.sizes, -1), strict=True))
        visible = state.pop(self.machine.visible)
        return self.machine.given(state).log_prob(visible)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        state = self.machine.sample_state(sample_shape)
        return torch.cat([state[layer] for layer in self.layers], -1)
