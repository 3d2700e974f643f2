"""Autoregressive networks as Pyro distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from .network import Network
from .outputs import Output


class AutoregressiveDistribution(TorchDistribution):
    r"""Rows with $p(x) = \prod_i p(x_i \mid x_{<i})$ and conditionals from a network (section 20.10.7-10).

    ``log_prob`` is exact, in nats, and takes one pass through the network; a draw visits the columns one after another. Bits
    and categories may be given as integers or booleans.

    Args:
        network: the network that gives the conditionals' numbers.
        output: the columns' families, which read the numbers.
        context: ``batch_shape x C``, columns that all conditionals also depend on; or None.

    Raises:
        ValueError: at ``log_prob`` with validation, a value outside the support.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.FVBN(visible=5)().sample((3,)).shape
        torch.Size([3, 5])
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self, network: Network, output: Output, context: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        self.network, self.output, self.context = network, output, context
        batch = torch.Size() if context is None else context.shape[:-1]
        super().__init__(batch, network.order.shape, validate_args=validate_args)

    @property
    def members(self) -> tuple[AutoregressiveDistribution, ...]:
        """The distributions that it averages, each of one order: itself alone."""
        return (self,)

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.output.support, 1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> AutoregressiveDistribution:
        batch = torch.Size(batch_shape)
        context = None if self.context is None else self.context.expand(*batch, self.context.shape[-1])
        other = AutoregressiveDistribution(self.network, self.output, context, validate_args=False)
        TorchDistribution.__init__(other, batch, self.event_shape, validate_args=False)
        other._validate_args = self._validate_args
        return other

    def of_rows(self, numbers: Tensor) -> AutoregressiveDistribution:
        """The distributions of the rows with these numbers, where there is one context per row; otherwise itself."""
        if self.context is None or not self.batch_shape:
            return self
        return AutoregressiveDistribution(self.network, self.output, self.context[numbers])

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        value = self.floating(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        columns = self.output.log_prob(self.numbers(value), value)
        return columns.sum(-1).expand(shape)

    def numbers(self, value: Tensor) -> Tensor:
        """The numbers of every column's conditional given the columns before it: ``batch_shape x D x P``."""
        value, context = self.floating(value), self.context
        if context is not None:
            context = context.expand(*torch.broadcast_shapes(value.shape[:-1], self.batch_shape), context.shape[-1])
            value = value.expand(*context.shape[:-1], value.shape[-1])
        return self.network(self.output.encode(value), context)

    def floating(self, value: Tensor) -> Tensor:
        """Convert values to the network's floating-point type.

        Raises:
            ValueError: complex numbers, whose imaginary parts would be lost.
        """
        if value.is_complex():
            raise ValueError(f"the distribution got complex numbers, {value.dtype}; expected real ones")
        return value.to(next(self.network.parameters()).dtype)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        return self.draw(shape, torch.arange(math.prod(shape))).reshape(*shape, *self.event_shape)

    @torch.no_grad()
    def draw(self, shape: Sequence[int], rows: Tensor) -> Tensor:
        """Draw the rows with these numbers of a sample of ``shape`` (which ends in the batch shape): ``rows x D``."""
        context = self.context
        if context is not None:
            width = context.shape[-1]
            context = context.expand(*shape, width).reshape(-1, width)[rows.to(context.device)]
        return self.network.walk(self.output.sample_column, self.output, len(rows), context)
