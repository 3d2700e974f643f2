"""What one column is, given those before it: families of conditionals that read numbers of a network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import log_softmax, logsigmoid, one_hot

from ..energy.fast import bernoulli

FLOOR = 1e-3
"""The least scale of a real-valued column; without one a density grows without bound."""


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

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        """The middle of weighted draws: ``K x ... x D`` with shares ``K x ...`` that sum to one; here their mean."""
        return (draws * shares.unsqueeze(-1)).sum(0)


class BinaryOutput(Output):
    r"""Bits: $P(x_i = 1 \mid x_{<i}) = \sigma(a_i)$."""

    parameters, states, support = 1, 2, constraints.boolean

    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        return logsigmoid((2 * value - 1) * numbers.squeeze(-1))

    def sample(self, numbers: Tensor) -> Tensor:
        return bernoulli(numbers.squeeze(-1).contiguous())

    def expected(self, numbers: Tensor) -> Tensor:
        return numbers.sigmoid()

    def start(self, x: Tensor) -> Tensor:
        return torch.logit(x.mean(0), eps=1e-2).unsqueeze(-1)

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        # Shares sum to one up to rounding only.
        return super().centre(draws, shares).clamp(0, 1)


class CategoricalOutput(Output):
    r"""One of C categories, numbered from 0: $P(x_i = c \mid x_{<i}) = \mathrm{softmax}(a_i)_c$.

    A value enters the network as C indicators.

    Args:
        categories: C.
    """

    def __init__(self, categories: int) -> None:
        self.parameters = self.features = self.states = categories
        self.support = constraints.integer_interval(0, categories - 1)

    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        table = log_softmax(numbers, -1)
        index = value.long().expand(table.shape[:-1]).unsqueeze(-1)
        return table.gather(-1, index).squeeze(-1)

    def sample(self, numbers: Tensor) -> Tensor:
        return _category(numbers).to(numbers.dtype)

    def expected(self, numbers: Tensor) -> Tensor:
        return numbers.softmax(-1)

    def encode(self, value: Tensor) -> Tensor:
        return one_hot(value.long(), self.parameters).to(value.dtype)

    def start(self, x: Tensor) -> Tensor:
        share = self.encode(x).mean(0)
        return (share + 1e-2).log()

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        """The most probable category."""
        return (self.encode(draws) * shares[..., None, None]).sum(0).argmax(-1).to(draws.dtype)


class MixtureOutput(Output):
    r"""A mixture of K normal or Laplace distributions.

    $p(x_i \mid x_{<i}) = \sum_k \pi_{ik}\, f((x_i - \mu_{ik}) / s_{ik}) / s_{ik}$ with the standard density f of the family.
    The numbers of a column are K logits, K means and K logarithms of scales, to which 0.001 is added. With one component
    it is a single Gaussian (or Laplace distribution) without a logit.

    With ``scaled_gradient`` the derivative by a mean is multiplied by its scale, so that sharp components do not tear
    the others along (Uria, Murray and Larochelle 2013): a change of the direction of learning, not of the density.

    Args:
        components: K.
        family: ``"gaussian"`` or ``"laplace"``.
        scaled_gradient: multiply the means' derivatives by the scales.
    """

    support = constraints.real

    def __init__(self, components: int = 1, family: str = "gaussian", scaled_gradient: bool = False) -> None:
        self.components, self.family, self.scaled_gradient = components, family, scaled_gradient
        self.parameters = 3 * components if components > 1 else 2
        self.spread = (1,) if components == 1 else ()
        self.least_squares = components == 1 and family == "gaussian"

    def _parts(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and scales, each ``... x D x K``."""
        *logits, means, log_scales = numbers.split(self.components, -1)
        scales = FLOOR + log_scales.exp()
        if self.scaled_gradient and means.requires_grad:
            means = means.detach() + (means - means.detach()) * scales.detach()
        return logits[0] if logits else torch.zeros_like(means), means, scales

    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        logits, means, scales = self._parts(numbers)
        z = (value.unsqueeze(-1) - means) / scales
        shape = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) if self.family == "gaussian" else -z.abs() - math.log(2)
        each = shape - scales.log()
        return each.squeeze(-1) if self.components == 1 else (log_softmax(logits, -1) + each).logsumexp(-1)

    def sample(self, numbers: Tensor) -> Tensor:
        logits, means, scales = self._parts(numbers)
        chosen = _category(logits).unsqueeze(-1)
        noise = torch.randn_like(means[..., 0])
        if self.family == "laplace":
            # A difference of exponentials; the inverse of the distribution function is infinite where a uniform is zero.
            noise = torch.empty_like(noise).exponential_() - torch.empty_like(noise).exponential_()
        return means.gather(-1, chosen).squeeze(-1) + scales.gather(-1, chosen).squeeze(-1) * noise

    def expected(self, numbers: Tensor) -> Tensor:
        logits, means, _ = self._parts(numbers)
        return (logits.softmax(-1) * means).sum(-1, keepdim=True)

    def start(self, x: Tensor) -> Tensor:
        mean, spread = x.mean(0), x.std(0, correction=0).clamp_min(1e-2)
        if self.components == 1:
            return torch.stack([mean, spread.log()], -1)
        at = torch.linspace(-1.5, 1.5, self.components, device=x.device, dtype=x.dtype)
        means = mean.unsqueeze(-1) + spread.unsqueeze(-1) * at
        scales = (2 * spread / self.components**0.5).log().unsqueeze(-1).expand_as(means)
        return torch.cat([torch.zeros_like(means), means, scales], -1)


class MixedOutput(Output):
    """Columns of different families, declared one by one.

    Args:
        families: that of every column.
    """

    def __init__(self, families: Sequence[Output]) -> None:
        self.families = tuple(families)
        self.support = constraints.real if all(f.support is constraints.real for f in families) else _Columns(self)
        self.parameters = max(f.parameters for f in families)
        self.features = max(f.features for f in families)
        states = [f.states for f in families]
        self.states = None if None in states else max(s for s in states if s is not None)
        distinct = list(dict.fromkeys(families))
        self.groups = [(f, torch.tensor([i for i, other in enumerate(families) if other is f])) for f in distinct]

    def log_prob(self, numbers: Tensor, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(numbers.shape[:-1], value.shape)
        parts = [
            f.log_prob(numbers[..., i, : f.parameters], value[..., i]).expand(*shape[:-1], len(i))
            for f, i in self.groups
        ]
        return self._together(parts)

    def sample(self, numbers: Tensor) -> Tensor:
        return self._together([f.sample(numbers[..., i, : f.parameters]) for f, i in self.groups])

    def expected(self, numbers: Tensor) -> Tensor:
        parts = [self._wide(f.expected(numbers[..., i, : f.parameters]), self.features) for f, i in self.groups]
        return self._together(parts, -2)

    def encode(self, value: Tensor) -> Tensor:
        return self._together([self._wide(f.encode(value[..., i]), self.features) for f, i in self.groups], -2)

    def start(self, x: Tensor) -> Tensor:
        return self._together([self._wide(f.start(x[:, i]), self.parameters) for f, i in self.groups], -2)

    def column(self, number: int) -> Output:
        return self.families[number]

    def outside(self, x: Tensor) -> Tensor:
        return self._together([f.outside(x[..., i]) for f, i in self.groups])

    def centre(self, draws: Tensor, shares: Tensor) -> Tensor:
        return self._together([f.centre(draws[..., i], shares) for f, i in self.groups])

    def _together(self, parts: list[Tensor], dim: int = -1) -> Tensor:
        back = torch.cat([i for _, i in self.groups]).argsort().to(parts[0].device)
        return torch.cat(parts, dim).index_select(dim, back)

    @staticmethod
    def _wide(part: Tensor, size: int) -> Tensor:
        return torch.nn.functional.pad(part, (0, size - part.shape[-1]))


class _Columns(constraints.Constraint):
    """Values that are in the support of their own column."""

    def __init__(self, families: Output) -> None:
        self.families = families

    def check(self, value: Tensor) -> Tensor:
        return ~self.families.outside(value)


def _category(logits: Tensor) -> Tensor:
    """An index drawn with softmax probabilities along the last dimension."""
    noise = -torch.empty_like(logits).exponential_().log()
    return (logits + noise).argmax(-1)


NAMES = "'binary', 'categorical:C', 'gaussian', 'gaussians:K', 'laplace' or 'laplaces:K'"


def output(name: str | Sequence[str], visible: int, scaled_gradient: bool = False) -> Output:
    """The conditionals that a name (or one name a column) stands for.

    Args:
        name: ``"binary"``, ``"categorical:C"``, ``"gaussian"``, ``"gaussians:K"`` (a mixture), ``"laplace"`` or
            ``"laplaces:K"``; or a sequence of such names, one a column.
        visible: the number of columns, D.
        scaled_gradient: of mixtures and Gaussians: see ``MixtureOutput``.

    Raises:
        ValueError: another name, or a sequence of another length than D.

    Example:
        >>> output("gaussians:10", 4).parameters, output(["binary", "categorical:3"], 2).features
        (30, 3)
    """
    if isinstance(name, str):
        return _family(name, scaled_gradient)
    names = tuple(name)
    if len(names) != visible:
        raise ValueError(
            f"output got {len(names)} families for {visible} columns; declare one a column, or one name for all"
        )
    known = {n: _family(n, scaled_gradient) for n in set(names)}
    return known[names[0]] if len(known) == 1 else MixedOutput([known[n] for n in names])


def _family(name: str, scaled_gradient: bool) -> Output:
    kind, _, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    count = int(number) if number.isdigit() else 0
    if name == "binary":
        return BinaryOutput()
    if kind == "categorical" and count >= 2:
        return CategoricalOutput(count)
    if name in ("gaussian", "laplace"):
        return MixtureOutput(1, name, scaled_gradient)
    if kind in ("gaussians", "laplaces") and count >= 2:
        return MixtureOutput(count, kind[:-1], scaled_gradient)
    raise ValueError(
        f"output got {name!r}; expected {NAMES} with C and K of at least 2, or a sequence of these, one a column"
    )
