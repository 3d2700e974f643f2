"""Mixtures of autoregressive networks over orders of the columns (20.84)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from .distribution import AutoregressiveDistribution
from .outputs import Output


class OrderEnsemble(TorchDistribution):
    r"""$p(x) = \frac1M \sum_m p(x \mid o_m)$: a mixture of M autoregressive distributions, one per order (20.84).

    The likelihoods are averaged: averages of the conditionals' logits would not make a distribution. A draw picks an
    order and follows it.

    Args:
        members: distributions with the same batch and event shape.

    Raises:
        ValueError: no members, or members of different shapes.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, members: Sequence[AutoregressiveDistribution], validate_args: bool | None = None) -> None:
        # Sizes are tensors while Pyro's JIT traces a program: equal ones hash apart.
        shapes = [(*m.batch_shape, -1, *m.event_shape) for m in members]
        if not members or any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"members got {len(members)} distributions; expected at least one, all of one shape")
        self.members = tuple(members)
        self.output: Output = members[0].output
        super().__init__(members[0].batch_shape, members[0].event_shape, validate_args=validate_args)

    @constraints.dependent_property(event_dim=1)
    def support(self) -> Any:
        return self.members[0].support

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> OrderEnsemble:
        return OrderEnsemble([m.expand(batch_shape) for m in self.members], validate_args=self._validate_args)

    def of_rows(self, numbers: Tensor) -> OrderEnsemble:
        """The distributions of the rows with these numbers, where there is one context per row."""
        return OrderEnsemble([member.of_rows(numbers) for member in self.members])

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.stack([m.log_prob(value) for m in self.members]).logsumexp(0) - math.log(len(self.members))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        chosen = torch.randint(len(self.members), (math.prod(shape),))
        rows = [(chosen == number).nonzero().flatten() for number in range(len(self.members))]
        draws = [m.draw(shape, numbers) for m, numbers in zip(self.members, rows, strict=True) if len(numbers)]
        drawn = torch.cat(draws or [self.members[0].draw(shape, chosen)])
        return drawn[torch.cat(rows).argsort().to(drawn.device)].reshape(*shape, *self.event_shape)
