"""The interface of a family of conditionals: how numbers of a network are read."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.distributions import constraints


class Output(ABC):
    """The conditional of every column, in terms of ``parameters`` numbers a column.

    Attributes:
        parameters: numbers that the network gives for a column, P.
        features: numbers by which a value enters the network, F.
        states: how many values a column can take; None where it is real.
        support: of one column.
        spread: the numbers of a column that a linear network holds constant: the scale of a single Gaussian, say.
        least_squares: whether a linear network of constant spread is fitted by least squares.
    """

    parameters: int
    features: int = 1
    states: int | None = None
    spread: tuple[int, ...] = ()
    least_squares: bool = False
    support: constraints.Constraint

    @abstractmethod
    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        """Log-probability (or density) column by column, in nats: ``... x D x P`` and ``... x D`` to ``... x D``."""

    @abstractmethod
    def sample(self, numbers: Tensor) -> Tensor:
        """A draw of every column: ``... x D x P`` to ``... x D``."""

    @abstractmethod
    def expected(self, numbers: Tensor) -> Tensor:
        """The mean of what enters the network for every column: ``... x D x P`` to ``... x D x F``."""

    @abstractmethod
    def start(self, x: Tensor) -> Tensor:
        """The numbers at which independent columns fit ``rows x D`` data: ``D x P``."""

    def encode(self, value: Tensor) -> Tensor:
        """How values enter the network: ``... x D`` to ``... x D x F``."""
        return value.unsqueeze(-1)

    def column(self, number: int) -> Output:
        """The family of one column, which reads the first of its numbers."""
        return self

    def encode_column(self, number: int, value: Tensor) -> Tensor:
        """How a column's values enter the network: ``...`` to ``... x F``."""
        own = self.column(number).encode(value.unsqueeze(-1)).squeeze(-2)
        return torch.nn.functional.pad(own, (0, self.features - own.shape[-1]))

    def sample_column(self, number: int, numbers: Tensor) -> Tensor:
        """A draw of one column: ``... x P`` to ``...``."""
        family = self.column(number)
        return family.sample(numbers[..., None, : family.parameters]).squeeze(-1)

    def log_prob_column(self, number: int, numbers: Tensor, value: Tensor) -> Tensor:
        """The log-probability of one column's values: ``... x P`` and ``...`` to ``...``."""
        family = self.column(number)
        return family.log_prob(numbers[..., None, : family.parameters], value.unsqueeze(-1)).squeeze(-1)

    def values(self, number: int) -> list[float]:
        """What one column can be.

        Raises:
            ValueError: it is real.
        """
        states = self.column(number).states
        if states is None:
            raise ValueError(f"column {number} is real: its values cannot be listed. Use method='importance'")
        return [float(v) for v in range(states)]

    def outside(self, x: Tensor) -> Tensor:
        """Where ``rows x D`` data are no values of their columns: booleans of that shape."""
        return ~self.support.check(x)

    def fault(self, x: Tensor, among: Tensor | None = None) -> str | None:
        """What is wrong with ``rows x D`` data (the entries ``among`` them), in words; None where nothing is."""
        outside = self.outside(x) if among is None else self.outside(x) & among
        if not bool(outside.any()):
            return None
        row, column = outside.nonzero()[0].tolist()
        states = self.column(column).states
        expected = {None: "a real number", 2: "0 or 1"}.get(states, f"a whole number from 0 to {(states or 1) - 1}")
        return f"the value {float(x[row, column]):g} in row {row}, column {column}; expected {expected}"

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        """The middle of weighted draws: ``K x ... x D`` with shares ``K x ...`` that sum to one; here their mean."""
        return (draws * shares.unsqueeze(-1)).sum(0)
