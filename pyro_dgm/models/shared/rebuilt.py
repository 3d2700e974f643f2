"""Rows that are corrupted and rebuilt: the corruption C(x~ | x), and the columns of the reconstruction law P(x | x~)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import ReshapeTransform
from torch import Tensor, nn

from ...checks import check_choice, check_columns, check_count, check_positive, check_share
from ...distributions.exact_bits import ExactBits
from ...native import bernoulli_
from ...nets.scaling import ColumnScaling
from .rows import check_binary

Corruption = Callable[[Tensor], Tensor]

SMALLEST_VARIANCE = 1e-4
"""The least variance of a rebuilt column that was standardised."""


class RebuiltColumns(nn.Module, ABC):
    """The columns of rows that are corrupted and rebuilt, independent of one another given the corrupted row.

    Args:
        visible: the number of columns.
        corruption: a name in ``corruptions``, ``"none"``, or a function of rows that returns corrupted ones.
        level: the strength of a named corruption, by default that in ``corruptions``.

    Attributes:
        corruptions: the names of corruptions and their default levels.
        outputs: the numbers that a network gives per row.
        mean: the columns' means, from which chains start.

    Raises:
        ValueError: no column; an unknown corruption, or a level that it cannot have.
    """

    corruptions: ClassVar[dict[str, float]]
    mean: Tensor

    def __init__(self, visible: int, corruption: str | Corruption | None, level: float | None) -> None:
        super().__init__()
        self.visible = self.outputs = check_columns(visible)
        named = next(iter(self.corruptions)) if corruption is None else corruption
        if named == "none":
            if level is not None:
                raise ValueError(f"level got {level!r} with corruption='none', which has no strength")
            self.level: float | None = None
        elif isinstance(named, str):
            check_choice("corruption", named, (*self.corruptions, "none"))
            level = self.corruptions[named] if level is None else level
            self.check_level(named, level)
            self.level = float(level)
        elif not callable(named):
            raise ValueError(
                f"corruption got {named!r}; expected one of {', '.join(map(repr, self.corruptions))}, or a function of rows"
            )
        elif level is not None:
            raise ValueError(f"level got {level!r} with a corruption of your own, which has its strength in itself")
        else:
            self.level = None
        self.corruption = named
        self.register_buffer("mean", torch.full((visible,), 0.5))

    def check_level(self, corruption: str, level: float) -> None:
        """Raise ``ValueError`` for a level that the corruption cannot have; by default it is the share of entries hit."""
        check_share("level", level, f"the share of entries that {corruption!r} hits")

    def corrupt(self, x: Tensor) -> Tensor:
        """A corrupted copy of each row, in the data's units."""
        if self.corruption == "none":
            return x
        if not isinstance(self.corruption, str):
            noisy = self.corruption(x)
            if not isinstance(noisy, Tensor) or noisy.shape != x.shape or not bool(noisy.isfinite().all()):
                got = f"shape {tuple(noisy.shape)}" if isinstance(noisy, Tensor) else type(noisy).__name__
                raise ValueError(
                    f"the corruption returned {got} or NaN for rows of shape {tuple(x.shape)}; expected such rows"
                )
            return noisy
        return self.corrupted(x, self.corruption, self.level or 0.0)

    @abstractmethod
    def corrupted(self, x: Tensor, corruption: str, level: float) -> Tensor:
        """A copy of each row after a corruption of that name and level."""

    def seen(self, x: Tensor) -> Tensor:
        """Rows as networks see them."""
        return x

    @abstractmethod
    def law(self, output: Tensor) -> dist.TorchDistribution:
        """The law of rows from a network's output: ``event_shape`` (visible,)."""

    def drawn(self, law: Any) -> Tensor:
        """A row from each law of ``law``."""
        return law.sample()

    @abstractmethod
    def first(self, n: int) -> Tensor:
        """Rows with independent columns of the data's means."""

    def initialise(self, x: Tensor) -> None:
        """Take the columns' means from data."""
        self.mean.copy_(x.mean(0))

    @abstractmethod
    def bias(self) -> Tensor:
        """The network's output that gives every column its mean."""

    @abstractmethod
    def check(self, x: Tensor, name: str) -> None:
        """Raise ``ValueError`` where rows hold values that the columns cannot take."""

    def check_known(self, known: Tensor, name: str) -> None:
        """Raise ``ValueError`` where entries cannot be known without others; by default all can."""
        return None

    def neutral(self) -> Tensor:
        """A row that the columns can hold: ``visible``."""
        return torch.zeros_like(self.mean)

    def whole(self, known: Tensor) -> Tensor:
        """Booleans of entries, made such that entries which are known together are so."""
        return known

    def settle(self, x: Tensor, rebuilt: Tensor) -> None:
        """Measure what the law takes from held-out rows and their means when rebuilt from corrupted ones."""
        return None


class Bits(RebuiltColumns):
    """Binary columns, rebuilt as independent bits."""

    corruptions: ClassVar[dict[str, float]] = {"salt_and_pepper": 0.4, "flip": 0.2, "masking": 0.3}

    def corrupted(self, x: Tensor, corruption: str, level: float) -> Tensor:
        hit = bernoulli_(torch.full_like(x, level))
        if corruption == "masking":
            return x * (1 - hit)
        noise = 1 - x if corruption == "flip" else bernoulli_(torch.full_like(x, 0.5))
        return torch.lerp(x, noise, hit)

    def law(self, output: Tensor) -> dist.TorchDistribution:
        return ExactBits(logits=output).to_event(1)

    def first(self, n: int) -> Tensor:
        return torch.bernoulli(self.mean.expand(n, -1))

    def bias(self) -> Tensor:
        return torch.logit(self.mean, eps=1e-2)

    def check(self, x: Tensor, name: str) -> None:
        check_binary(x, f"{name} with binary output", "choose output='gaussian' (--set output=gaussian)")


class GaussianColumns(RebuiltColumns):
    r"""Real columns, rebuilt as $N(r(\tilde x), \tau^2)$ with $\tau^2$ the squared error of r on held-out rows.

    Columns are standardised for the network, and levels and variances are in these units. Columns that are constant in the data
    are neither corrupted nor rebuilt: they keep their value.

    Args:
        shared: one $\tau^2$ for all columns.
    """

    corruptions: ClassVar[dict[str, float]] = {"gaussian": 0.5, "masking": 0.3}
    variance: Tensor
    constant: Tensor

    def __init__(
        self, visible: int, corruption: str | Corruption | None, level: float | None, shared: bool = False
    ) -> None:
        super().__init__(visible, corruption, level)
        self.shared, self.scaling = shared, ColumnScaling(visible)
        self.register_buffer("variance", torch.ones(visible))
        self.register_buffer("constant", torch.zeros(visible, dtype=torch.bool))

    def check_level(self, corruption: str, level: float) -> None:
        if corruption == "gaussian":
            check_positive("level", level, "the standard deviation of the noise")
        else:
            super().check_level(corruption, level)

    def corrupted(self, x: Tensor, corruption: str, level: float) -> Tensor:
        if corruption == "gaussian":
            return x + level * self.scaling.scale * torch.where(self.constant, 0.0, torch.randn_like(x))
        return torch.where(torch.rand_like(x) < level, self.scaling.mean, x)

    def seen(self, x: Tensor) -> Tensor:
        return self.scaling(x)

    def law(self, output: Tensor) -> dist.TorchDistribution:
        output = torch.where(self.constant, 0.0, output)
        return dist.Normal(self.scaling.back(output), self.scaling.scale * self.variance.sqrt()).to_event(1)

    def drawn(self, law: Any) -> Tensor:
        return torch.where(self.constant, self.scaling.mean, law.sample())

    def first(self, n: int) -> Tensor:
        noise = torch.randn(n, self.visible).to(self.mean)
        return self.mean + self.scaling.scale * torch.where(self.constant, 0.0, noise)

    def initialise(self, x: Tensor) -> None:
        super().initialise(x)
        self.scaling.fit(x)
        self.constant.copy_((x == x[:1]).all(0))

    def bias(self) -> Tensor:
        return torch.zeros_like(self.mean)

    def check(self, x: Tensor, name: str) -> None:
        """All real numbers can be rebuilt."""

    def settle(self, x: Tensor, rebuilt: Tensor) -> None:
        error = (self.seen(x) - self.seen(rebuilt)).square().mean(0)
        self.variance.copy_((error.mean() if self.shared else error).clamp_min(SMALLEST_VARIANCE))


class OneHotColumns(RebuiltColumns):
    """Groups of columns, of which one is on in every group, rebuilt as independent categorical variables.

    Args:
        levels: the columns of a group.

    Raises:
        ValueError: fewer than two levels, or columns that are not whole groups.
    """

    corruptions: ClassVar[dict[str, float]] = {"replace": 0.3, "masking": 0.3}

    def __init__(self, visible: int, corruption: str | Corruption | None, level: float | None, levels: int) -> None:
        super().__init__(visible, corruption, level)
        self.levels = check_count("levels", levels, 2, "the columns of a group")
        if visible % levels:
            raise ValueError(f"levels got {levels} with {visible} columns; expected columns in groups of that many")
        self.mean.fill_(1 / levels)

    def neutral(self) -> Tensor:
        return torch.eye(self.levels)[0].repeat(self.visible // self.levels).to(self.mean)

    def groups(self, x: Tensor) -> Tensor:
        """``... x groups x levels``."""
        return x.unflatten(-1, (-1, self.levels))

    def corrupted(self, x: Tensor, corruption: str, level: float) -> Tensor:
        groups = self.groups(x)
        hit = torch.rand(groups.shape[:-1], device=x.device) < level
        other = torch.zeros_like(groups)
        if corruption == "replace":
            chosen = torch.randint(self.levels, groups.shape[:-1], device=x.device)
            other.scatter_(-1, chosen.unsqueeze(-1), 1.0)
        return torch.where(hit.unsqueeze(-1), other, groups).flatten(-2)

    def law(self, output: Tensor) -> dist.TorchDistribution:
        return FlatOneHot(self.groups(output))

    def first(self, n: int) -> Tensor:
        return dist.OneHotCategorical(self.groups(self.mean + 1e-6)).sample((n,)).flatten(-2)

    def bias(self) -> Tensor:
        return self.mean.clamp_min(1e-2).log()

    def check(self, x: Tensor, name: str) -> None:
        groups = self.groups(x)
        if not bool(((groups == 0) | (groups == 1)).all() and (groups.sum(-1) == 1).all()):
            raise ValueError(
                f"{name} with categorical output got columns that are no one-hot groups; expected a single 1 in every "
                f"{self.levels} columns"
            )

    def whole(self, known: Tensor) -> Tensor:
        return self.groups(known)[..., :1].expand(*known.shape[:-1], -1, self.levels).flatten(-2)

    def check_known(self, known: Tensor, name: str) -> None:
        groups = self.groups(known)
        if bool((groups.any(-1) != groups.all(-1)).any()):
            raise ValueError(
                f"{name} got a group of one-hot columns of which some are known and others are not; mark all {self.levels} "
                "columns of a group alike"
            )


class FlatOneHot(dist.TransformedDistribution):
    """Independent one-hot groups side by side in one row: ``event_shape`` (groups x levels,)."""

    def __init__(self, logits: Tensor) -> None:
        self.base = dist.OneHotCategorical(logits=logits).to_event(1)
        shape = self.base.event_shape
        super().__init__(self.base, [ReshapeTransform(shape, torch.Size([shape.numel()]))])

    @property
    def mean(self) -> Tensor:
        return self.base.mean.flatten(-2)
