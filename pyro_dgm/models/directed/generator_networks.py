"""Generator networks with an explicit density, section 20.10.2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import AffineCoupling, LowerCholeskyAffine, Permute
from pyro.nn import DenseNN
from torch import Tensor, nn

from ...checks import check_columns, check_count, check_counts
from ...columns import CONSTANT, constant, location_and_variance
from ...distributions.histogram import Histogram
from ..shared.examples import seeded
from ..shared.explicit import ExplicitModel


class AffineGenerator(ExplicitModel):
    r"""Gaussian rows from standard normal noise by an affine map, $x = \mu + L z$ (20.71).

    The model is the map of the noise; since the map is invertible the density is $\mathcal N(\mu, L L^\top)$. A first
    ``fit`` starts at the maximum-likelihood solution, which has a closed form; on rows with missing values (NaN), whose
    likelihood is the density of the known ones, near it.

    Args:
        visible: the number of columns.

    Attributes:
        mean: $\mu$, ``visible``.
        factor: $L$ below the diagonal, ``visible x visible``; its other entries are not used.
        log_diagonal: the logarithm of $L$'s diagonal, ``visible``.

    Raises:
        ValueError: no column.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.AffineGenerator(3).sample(2).shape
        torch.Size([2, 3])
    """

    takes_missing = True

    def __init__(self, visible: int) -> None:
        super().__init__()
        visible = check_columns(visible)
        self.visible = visible
        self.mean = nn.Parameter(torch.zeros(visible))
        self.factor = nn.Parameter(torch.zeros(visible, visible))
        self.log_diagonal = nn.Parameter(torch.zeros(visible))

    def forward(self) -> dist.TorchDistribution:
        scale = self.factor.tril(-1) + torch.diag_embed(self.log_diagonal.exp())
        noise = dist.Normal(torch.zeros_like(self.mean), 1.0).to_event(1)
        return dist.TransformedDistribution(noise, [LowerCholeskyAffine(self.mean, scale)])

    def of_rows(self, x: Any) -> tuple[dist.TorchDistribution, Any]:
        if x is None or not bool((missing := x.isnan()).any()):
            return self(), x
        scale = self.factor.tril(-1) + torch.diag_embed(self.log_diagonal.exp())
        rows = torch.where(missing.unsqueeze(-1), 0.0, scale)
        # A missing value stands at the mean of a normal of its own, whose density there is one.
        covariance = rows @ rows.mT + torch.diag_embed(missing / (2 * math.pi))
        return dist.MultivariateNormal(self.mean, covariance), torch.where(missing, self.mean.detach(), x)

    def initialise(self, x: Tensor) -> None:
        """Start at the rows' mean and covariance.

        A column of one value is given a hundredth of the others' mean variance. Where the correlations of the columns are
        singular up to rounding, a hundredth of its own variance is added to every column.
        """
        location, variance = location_and_variance(x)
        fixed = constant(x)
        if not bool(fixed.all()):
            variance = torch.where(fixed, (0.01 * variance[~fixed].mean()).clamp_min(CONSTANT), variance)
        scale = variance.sqrt()
        standard = ((x - location) / scale).double()
        correlation = standard.T @ standard / len(x)
        correlation.diagonal()[fixed] = 1.0
        if bool(torch.linalg.eigvalsh(correlation)[0] < self.visible * torch.finfo(x.dtype).eps):
            correlation.diagonal().add_(0.01)
        factor = scale.unsqueeze(-1) * torch.linalg.cholesky(correlation).to(x)
        with torch.no_grad():
            self.mean.copy_(location)
            self.factor.copy_(factor)
            self.log_diagonal.copy_(factor.diagonal().log())

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(3), lambda: torch.randn(10, 3), scale=0.5)


class InverseTransform(ExplicitModel):
    r"""Independent columns from uniform noise by the inverse of a distribution function, $x = F^{-1}(u)$ (20.10.2).

    $F$ of a column is piecewise linear between knots. Its density is a histogram with learned masses of the bins and an
    exponential tail at either end, which has a mass of a thousandth and the scale of the whole range. A first ``fit`` puts
    the knots at the data's quantiles. Missing values (NaN) are left out of the likelihood.

    Args:
        visible: the number of columns.
        bins: the number of bins per column.

    Attributes:
        knots: the bins' ends, ``visible x bins + 1``, fixed after the first ``fit``.
        logits: the logits of the bins' masses, ``visible x bins``.

    Raises:
        ValueError: no column or bin.

    Note: the columns are independent; ``dgm.FlowGenerator`` couples them by a change of variables (20.72-73).

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> model = dgm.InverseTransform(1, bins=4)
        >>> [round(v, 3) for v in model().log_prob(torch.tensor([[0.3], [2.0]])).tolist()]
        [-0.002, -7.908]
    """

    takes_missing = True
    knots: Tensor

    def __init__(self, visible: int, bins: int = 20) -> None:
        super().__init__()
        visible = check_columns(visible)
        bins = check_count("bins", bins, what="the number of bins")
        self.visible, self.bins = visible, bins
        self.register_buffer("knots", torch.linspace(0, 1, bins + 1).repeat(visible, 1))
        self.logits = nn.Parameter(torch.zeros(visible, bins))

    def forward(self) -> dist.TorchDistribution:
        return Histogram(self.knots, self.logits)

    def of_rows(self, x: Any) -> tuple[dist.TorchDistribution, Any]:
        if x is None or not bool((missing := x.isnan()).any()):
            return self(), x
        return Histogram(self.knots, self.logits, known=~missing), torch.where(missing, self.knots[:, 0], x)

    def initialise(self, x: Tensor) -> None:
        """Put the knots at the data's quantiles, and the outermost a little beyond its ends."""
        levels = torch.linspace(0, 1, self.bins + 1, device=x.device, dtype=x.dtype)
        knots = torch.quantile(x, levels, dim=0).T.contiguous()
        span = (knots[:, -1] - knots[:, 0]).clamp_min(1e-3)
        knots[:, 0] -= 0.1 * span
        knots[:, -1] += 0.1 * span
        least = 1e-4 * span.unsqueeze(1) * torch.arange(self.bins + 1, device=x.device)
        with torch.no_grad():
            self.knots.copy_(torch.cummax(knots - least, 1).values + least)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "bins": self.bins}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(2, bins=4), lambda: torch.rand(10, 2), scale=1.0)


class FlowGenerator(ExplicitModel):
    r"""An invertible generator network: $p_x(x) = p_z(g^{-1}(x))\,|\det \partial x / \partial z|^{-1}$, $x = g(z)$ (20.72-73).

    $g$ is a chain of Pyro's affine coupling transforms with permutations between them (Dinh, Sohl-Dickstein and Bengio
    2017), over standard normal noise. For other transforms see ``pyro.distributions.TransformedDistribution``.

    Args:
        visible: the number of columns, at least 2.
        layers: the number of coupling transforms.
        hidden: units of the hidden layers of their networks, at least one.

    Raises:
        ValueError: fewer than two columns, no hidden layer, or a number below one.

    Example:
        >>> import pyro_dgm as dgm
        >>> dgm.FlowGenerator(4, layers=2, hidden=(8,)).sample(2).shape
        torch.Size([2, 4])
    """

    def __init__(self, visible: int, layers: int = 6, hidden: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        visible, layers = (
            check_columns(visible, 2),
            check_count("layers", layers, what="the number of coupling transforms"),
        )
        self.visible, self.layers, self.hidden = visible, layers, check_counts("hidden", hidden)
        split = visible // 2
        sizes = [visible - split, visible - split]
        self.networks = nn.ModuleList(DenseNN(split, list(hidden), sizes) for _ in range(layers))
        self.location = nn.Parameter(torch.zeros(visible))
        self.log_scale = nn.Parameter(torch.zeros(visible))

    def forward(self) -> dist.TransformedDistribution:
        reversal = Permute(torch.arange(self.visible, device=self.location.device).flip(0))
        transforms: list[Any] = []
        for network in self.networks:
            transforms += [AffineCoupling(self.visible // 2, network), reversal]
        last = dist.transforms.AffineTransform(self.location, self.log_scale.exp(), event_dim=1)
        noise = dist.Normal(torch.zeros_like(self.location), 1.0).to_event(1)
        return dist.TransformedDistribution(noise, [*transforms, last])

    def initialise(self, x: Tensor) -> None:
        """Start the last map at the columns' means and standard deviations."""
        with torch.no_grad():
            location, variance = location_and_variance(x)
            self.location.copy_(location)
            self.log_scale.copy_(0.5 * variance.log())

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "layers": self.layers, "hidden": list(self.hidden)}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(3, layers=2, hidden=(4,)), lambda: torch.randn(10, 3))
