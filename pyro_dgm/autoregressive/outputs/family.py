"""The interface of an output family, which reads a network's numbers as conditional distributions."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.distributions import constraints

from ...nets.scaling import ColumnScaling


class Output(ABC):
    """The conditional distributions of all columns, each given by ``parameters`` numbers.

    Attributes:
        parameters: numbers that the network gives for a column, P.
        features: numbers by which a value enters the network, F.
        states: the number of values that a column can have; None where it is real.
        support: the support of one column.
        spread: the numbers of a column that a linear network holds constant: the scale of a single Gaussian, say.
        least_squares: whether a linear network of constant spread is fitted by least squares.
        scaling: the map from data's columns to those that the numbers refer to; None for the identity.
    """

    parameters: int
    features: int = 1
    states: int | None = None
    spread: tuple[int, ...] = ()
    least_squares: bool = False
    scaling: ColumnScaling | None = None
    support: constraints.Constraint

    @abstractmethod
    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        """Log-probability (or density) column by column, in nats: ``... x D x P`` and ``... x D`` to ``... x D``."""

    @abstractmethod
    def sample(self, numbers: Tensor) -> Tensor:
        """A draw of every column: ``... x D x P`` to ``... x D``."""

    @abstractmethod
    def expected(self, numbers: Tensor) -> Tensor:
        """The mean of every column's features: ``... x D x P`` to ``... x D x F``."""

    def standardise(self, x: Tensor) -> None:
        """Take the units of real columns from data, ``rows x D``; by default the family has none."""
        return None

    def standardised(self, x: Tensor) -> Tensor:
        """The data as the numbers refer to them: in units of its columns' deviations, where it has taken any."""
        return x

    @abstractmethod
    def start(self, x: Tensor) -> Tensor:
        """The numbers with which independent columns fit ``rows x D`` data: ``D x P``."""

    def encode(self, value: Tensor) -> Tensor:
        """The features by which values enter the network: ``... x D`` to ``... x D x F``."""
        return value.unsqueeze(-1)

    def column(self, number: int) -> Output:
        """The family of one column, which reads the first of its numbers."""
        return self

    def encode_column(self, number: int, value: Tensor) -> Tensor:
        """The features by which one column's values enter the network: ``...`` to ``... x F``."""
        features = self.column(number).encode(value.unsqueeze(-1)).squeeze(-2)
        return torch.nn.functional.pad(features, (0, self.features - features.shape[-1]))

    def sample_column(self, number: int, numbers: Tensor) -> Tensor:
        """A draw of one column: ``... x P`` to ``...``."""
        family = self.column(number)
        return family.sample(numbers[..., None, : family.parameters]).squeeze(-1)

    def log_prob_column(self, number: int, numbers: Tensor, value: Tensor) -> Tensor:
        """The log-probability of one column's values: ``... x P`` and ``...`` to ``...``."""
        family = self.column(number)
        return family.log_prob(numbers[..., None, : family.parameters], value.unsqueeze(-1)).squeeze(-1)

    def values(self, number: int) -> list[float]:
        """The values that one column can have.

        Raises:
            ValueError: it is real.
        """
        states = self.column(number).states
        if states is None:
            raise ValueError(f"column {number} is real: its values cannot be listed. Use method='importance'")
        return [float(v) for v in range(states)]

    def outside(self, x: Tensor) -> Tensor:
        """Booleans, ``rows x D``: True where a value is not in the support of its column."""
        return ~self.support.check(x)

    def fault(self, x: Tensor, among: Tensor | None = None) -> str | None:
        """The first fault of ``rows x D`` data (of the entries ``among`` alone), in words; None where there is none."""
        outside = self.outside(x) if among is None else self.outside(x) & among
        if not bool(outside.any()):
            return None
        row, column = outside.nonzero()[0].tolist()
        states = self.column(column).states
        expected = {None: "a real number", 2: "0 or 1"}.get(states, f"a whole number from 0 to {(states or 1) - 1}")
        return f"the value {float(x[row, column]):g} in row {row}, column {column}; expected {expected}"

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        """The centre of weighted draws, ``K x ... x D`` with shares ``K x ...`` that sum to one; by default their mean."""
        return (draws * shares.unsqueeze(-1)).sum(0)
