"""Product of Student-t experts, alone and with mean units, section 20.5.2."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, Self

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from ...checks import check_columns, check_count
from ...energy.free import FreeEnergyDistribution
from ..shared.examples import seeded
from ..shared.free_energy import FreeEnergyModel, gaussian_given
from ..shared.rows import not_finite


class ProductOfT(FreeEnergyModel):
    r"""Product of Student-t experts over projections of x (Welling, Hinton and Osindero 2003).

    $E = \sum_j [h_j (1 + \tfrac12 (r_j^\top x)^2) + (1 - \gamma_j) \log h_j]$ (20.48) with $h_j > 0$, so that
    $h_j \mid x$ is gamma of shape $\gamma_j$ and rate $1 + \tfrac12 (r_j^\top x)^2$ (20.49), and
    $F(x) = \sum_j [\gamma_j \log(1 + \tfrac12 (r_j^\top x)^2) - \log\Gamma(\gamma_j)]$ in nats.

    The energy of x comes from the experts alone. An expert is a proper t density of $\nu_j = 2\gamma_j - 1$ degrees of freedom
    along $r_j$ if $\gamma_j > \tfrac12$; the product has a normaliser if all are and the $r_j$ span the space. Therefore the
    parameter is $\log \nu_j$, which keeps $\gamma_j > \tfrac12$; there must be at least as many experts as visible units; and
    log Z and draws are refused where the factors have lost full rank.

    ``model()`` is a distribution of ``event_shape`` (visible,); ``model().energy`` takes the layers ``visible`` and
    ``covariance``.

    Args:
        visible: the number of visible units.
        covariance: the number of experts, at least ``visible``; by default twice as many.
        shape: the first $\gamma$, above a half: one number, or one per expert.

    Attributes:
        factor: $r$, ``visible x covariance``.
        log_degrees: $\log \nu$, ``covariance``.

    Raises:
        ValueError: fewer experts than visible units; a number of units below one; a shape of a half or less.

    See also:
        ``dgm.MeanProductOfT``, which also models the mean.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> model = dgm.ProductOfT(visible=5, covariance=8, shape=2.0)
        >>> model.posterior(torch.zeros(2, 5)).mean[0, 0].item()
        2.0
    """

    def __init__(self, visible: int, covariance: int | None = None, shape: float | Tensor = 1.5) -> None:
        super().__init__()
        visible = check_columns(visible)
        covariance = check_count(
            "covariance", 2 * visible if covariance is None else covariance, what="the number of experts"
        )
        if covariance < visible:
            raise ValueError(
                f"covariance got {covariance}, fewer than the {visible} visible units: x would be free in the directions that "
                "no expert sees. Use as many experts, or dgm.MeanProductOfT"
            )
        self.visible, self.covariance = visible, covariance
        gamma = _shapes(shape, covariance, 0.5)
        self.factor = nn.Parameter(torch.randn(visible, covariance) / visible**0.5)
        self.log_degrees = nn.Parameter(torch.log(2 * gamma - 1))

    @property
    def shape(self) -> Tensor:
        r"""$\gamma$, ``covariance``."""
        return 0.5 + 0.5 * self.log_degrees.exp()

    def forward(self) -> FreeEnergyDistribution:
        """The distribution over visible rows."""
        factor, gamma = self.factor, self.shape

        def energy(state: Mapping[str, Tensor]) -> Tensor:
            return _gamma_energy(state["visible"], state["covariance"], factor, gamma)

        return self.distribution(
            functools.partial(_experts, factor=factor, gamma=gamma),
            {"factor": factor, "shape": gamma},
            energy,
            self.visible,
        )

    def posterior(self, x: Tensor) -> dist.Gamma:
        """The distribution of the hidden units given x (20.49), ``rows x covariance``."""
        return dist.Gamma(self.shape, _rate(x, self.factor))

    def normaliser_problem(self) -> str | None:
        if reason := not_finite(self):
            return reason
        rank = int(torch.linalg.matrix_rank(self.factor.detach()))
        if rank < self.visible:
            return f"the experts' directions span {rank} of {self.visible} dimensions; x is free in the others"
        return None

    def annealing_base(self, mean: Tensor, variance: Tensor) -> Distribution:
        # A Gaussian's tails are too light: the weights' variance would be infinite. t of 3 degrees has variance 3.
        return dist.StudentT(torch.full_like(mean, 3.0), mean, (variance / 3).sqrt()).to_event(1)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "covariance": self.covariance}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=3, covariance=4), lambda: torch.randn(10, 3), scale=0.7)


class MeanProductOfT(FreeEnergyModel):
    r"""Mean-product of Student-t (Ranzato, Mnih and Hinton 2010).

    $E = E_m + \sum_j [h^c_j (1 + \tfrac12 (r_j^\top x)^2) + (1 - \gamma_j) \log h^c_j]$ (20.48) with
    $E_m = \tfrac12 x^\top x - \sum_j x^\top W_j h^m_j - \sum_j b^m_j h^m_j$ (20.44), $h^m$ binary and $h^c_j > 0$, so that
    $h^c_j \mid x$ is gamma of shape $\gamma_j$ and rate $1 + \tfrac12 (r_j^\top x)^2$ (20.49). Summed out,

    $F(x) = \tfrac12 x^\top x - \sum_j \mathrm{softplus}(b^m_j + x^\top W_j)
    + \sum_j [\gamma_j \log(1 + \tfrac12 (r_j^\top x)^2) - \log\Gamma(\gamma_j)]$, in nats,

    which has a normaliser for all $\gamma_j > 0$. Given the hidden units x is Gaussian with covariance
    $C = (\sum_j h^c_j r_j r_j^\top + I)^{-1}$ and mean $C \sum_j W_j h^m_j$. Data are standardised rows.

    ``model()`` is a distribution of ``event_shape`` (visible,); ``model().energy`` takes the layers ``visible``, ``mean``
    and ``covariance``.

    Args:
        visible: the number of visible units.
        mean: the number of mean units.
        covariance: the number of experts.
        shape: the first $\gamma$, positive: one number, or one per expert.

    Attributes:
        weight: $W$, ``visible x mean``.
        factor: $r$, ``visible x covariance``.
        mean_bias: $b^m$, ``mean``.
        log_shape: $\log \gamma$, ``covariance``.

    Raises:
        ValueError: a number of units below one; a shape that is not positive.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> model = dgm.MeanProductOfT(visible=5, mean=3, covariance=4)
        >>> model().free_energy(torch.zeros(2, 5)).shape
        torch.Size([2])
    """

    def __init__(self, visible: int, mean: int = 100, covariance: int = 200, shape: float | Tensor = 1.5) -> None:
        super().__init__()
        visible, mean = check_columns(visible), check_count("mean", mean, what="the number of mean units")
        covariance = check_count("covariance", covariance, what="the number of experts")
        self.visible, self.mean, self.covariance = visible, mean, covariance
        gamma = _shapes(shape, covariance, 0.0)
        self.weight = nn.Parameter(0.01 * torch.randn(visible, mean))
        self.factor = nn.Parameter(torch.randn(visible, covariance) / visible**0.5)
        self.mean_bias = nn.Parameter(torch.zeros(mean))
        self.log_shape = nn.Parameter(gamma.log())

    @property
    def shape(self) -> Tensor:
        r"""$\gamma$, ``covariance``."""
        return self.log_shape.exp()

    def forward(self) -> FreeEnergyDistribution:
        """The distribution over visible rows."""
        weight, bias, factor, gamma = self.weight, self.mean_bias, self.factor, self.shape

        def free_energy(x: Tensor) -> Tensor:
            return 0.5 * (x**2).sum(-1) - softplus(bias + x @ weight).sum(-1) + _experts(x, factor, gamma)

        def energy(state: Mapping[str, Tensor]) -> Tensor:
            x, mean = state["visible"], state["mean"]
            mean_energy = 0.5 * (x**2).sum(-1) - (mean * (bias + x @ weight)).sum(-1)
            return mean_energy + _gamma_energy(x, state["covariance"], factor, gamma)

        parameters = {"weight": weight, "mean_bias": bias, "factor": factor, "shape": gamma}
        return self.distribution(free_energy, parameters, energy, self.visible)

    def posterior(self, x: Tensor) -> tuple[Tensor, dist.Gamma]:
        """The probabilities that mean units are on, ``rows x mean``, and the experts' gamma, ``rows x covariance``."""
        return torch.sigmoid(self.mean_bias + x @ self.weight), dist.Gamma(self.shape, _rate(x, self.factor))

    def conditional(self, mean: Tensor, covariance: Tensor) -> dist.MultivariateNormal:
        """The distribution of x given the hidden units, ``batch_shape x mean`` and ``batch_shape x covariance``."""
        return gaussian_given(mean @ self.weight.mT, covariance, self.factor)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "mean": self.mean, "covariance": self.covariance}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=3, mean=2, covariance=3), lambda: torch.randn(10, 3), scale=0.7)


def _rate(x: Tensor, factor: Tensor) -> Tensor:
    return 1 + 0.5 * (x @ factor) ** 2


def _experts(x: Tensor, factor: Tensor, gamma: Tensor) -> Tensor:
    """The contribution of the experts to F, with its constants."""
    return (gamma * _rate(x, factor).log()).sum(-1) - torch.lgamma(gamma).sum()


def _gamma_energy(x: Tensor, hidden: Tensor, factor: Tensor, gamma: Tensor) -> Tensor:
    return (hidden * _rate(x, factor) + (1 - gamma) * hidden.log()).sum(-1)


def _shapes(shape: float | Tensor, number: int, above: float) -> Tensor:
    """Check the shapes and return one per expert."""
    gamma = torch.as_tensor(shape, dtype=torch.get_default_dtype())
    if gamma.shape not in ((), (number,)):
        raise ValueError(f"shape got {tuple(gamma.shape)} numbers; expected one, or one for each of {number} experts")
    if not bool(((gamma > above) & (gamma < math.inf)).all()):
        raise ValueError(
            f"shape got {float(gamma.min()):g}; expected more than {above:g}, below which an expert has no normaliser"
        )
    return gamma.expand(number).clone()
