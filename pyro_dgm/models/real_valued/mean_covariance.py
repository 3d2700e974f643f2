"""Mean-covariance and covariance RBMs, section 20.5.2."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Self

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ...checks import check_columns, check_count
from ...energy.free import FreeEnergyDistribution
from ..shared.examples import seeded
from ..shared.free_energy import FreeEnergyModel, gaussian_given

_NAMES = ("weight", "factor", "mean_bias", "covariance_bias")


class MeanCovarianceRBM(FreeEnergyModel):
    r"""Mean-covariance RBM: hidden units that model the mean and others that model the precision (Ranzato and Hinton 2010).

    $E = E_m + E_c$ (20.43) with $E_m = \tfrac12 x^\top x - \sum_j x^\top W_j h^m_j - \sum_j b^m_j h^m_j$ (20.44) and
    $E_c = \tfrac12 \sum_j h^c_j (x^\top r_j)^2 - \sum_j b^c_j h^c_j$ (20.45-46), both kinds of units binary. Summed out,

    $F(x) = \tfrac12 x^\top x - \sum_j \mathrm{softplus}(b^m_j + x^\top W_j)
    - \sum_j \mathrm{softplus}(b^c_j - \tfrac12 (x^\top r_j)^2)$, in nats,

    which has a normaliser for all parameters. Given the hidden units x is Gaussian with covariance
    $C = (\sum_j h^c_j r_j r_j^\top + I)^{-1}$ and mean $C \sum_j W_j h^m_j$ (20.47); that covariance differs from state to
    state, so that chains move by HMC on F and not by Gibbs sweeps. x has no biases: data are standardised rows.

    ``model()`` is a distribution of ``event_shape`` (visible,); ``model().energy`` takes the layers ``visible``, ``mean``
    and ``covariance``.

    Args:
        visible: the number of visible units.
        mean: the number of mean units.
        covariance: the number of covariance units.

    Attributes:
        weight: $W$, ``visible x mean``.
        factor: $r$, ``visible x covariance``.
        mean_bias: $b^m$, ``mean``.
        covariance_bias: $b^c$, ``covariance``.

    Raises:
        ValueError: a number of units below one.

    See also:
        ``dgm.CovarianceRBM`` without mean units; ``dgm.MeanProductOfT`` with gamma units in place of binary ones.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> model = dgm.MeanCovarianceRBM(visible=5, mean=3, covariance=4)
        >>> model.conditional(torch.ones(2, 3), torch.ones(2, 4)).sample().shape
        torch.Size([2, 5])
    """

    def __init__(self, visible: int, mean: int = 100, covariance: int = 200) -> None:
        super().__init__()
        visible, mean = check_columns(visible), check_count("mean", mean, what="the number of mean units")
        covariance = check_count("covariance", covariance, what="the number of covariance units")
        self.visible, self.mean, self.covariance = visible, mean, covariance
        self.weight = nn.Parameter(0.3 * torch.randn(visible, mean))  # columns of smaller weights would stay alike
        self.factor = nn.Parameter(torch.randn(visible, covariance) / visible**0.5)
        self.mean_bias = nn.Parameter(torch.zeros(mean))
        self.covariance_bias = nn.Parameter(torch.zeros(covariance))

    def forward(self) -> FreeEnergyDistribution:
        """The distribution over visible rows."""
        parameters = (self.weight, self.factor, self.mean_bias, self.covariance_bias)
        free_energy, energy = functools.partial(_free_energy, parameters), functools.partial(_energy, parameters)
        return self.distribution(free_energy, dict(zip(_NAMES, parameters, strict=True)), energy, self.visible)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities that mean and covariance units are on, ``rows x mean`` and ``rows x covariance``."""
        return torch.sigmoid(self.mean_bias + x @ self.weight), _on(x, self.factor, self.covariance_bias)

    def conditional(self, mean: Tensor, covariance: Tensor) -> dist.MultivariateNormal:
        """The distribution of x given the hidden units (20.47).

        Args:
            mean: states of the mean units, ``batch_shape x mean``.
            covariance: states of the covariance units, ``batch_shape x covariance``.

        Returns:
            A normal of ``event_shape`` (visible,).
        """
        return gaussian_given(mean @ self.weight.mT, covariance, self.factor)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "mean": self.mean, "covariance": self.covariance}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=3, mean=2, covariance=3), lambda: torch.randn(10, 3), scale=0.7)


class CovarianceRBM(FreeEnergyModel):
    r"""Covariance RBM: the mean-covariance RBM without mean units (Ranzato, Krizhevsky and Hinton 2010).

    $E = \tfrac12 x^\top x + \tfrac12 \sum_j h_j (x^\top r_j)^2 - \sum_j b_j h_j$ (20.45-46; the first term comes from $E_m$
    and gives a normaliser for all parameters), so that given the hidden units x is a zero-mean Gaussian of covariance
    $(\sum_j h_j r_j r_j^\top + I)^{-1}$ (20.47), and
    $F(x) = \tfrac12 x^\top x - \sum_j \mathrm{softplus}(b_j - \tfrac12 (x^\top r_j)^2)$ in nats.

    ``model()`` is a distribution of ``event_shape`` (visible,); ``model().energy`` takes the layers ``visible`` and
    ``covariance``.

    Args:
        visible: the number of visible units.
        covariance: the number of covariance units.

    Attributes:
        factor: $r$, ``visible x covariance``.
        covariance_bias: $b$, ``covariance``.

    Raises:
        ValueError: a number of units below one.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> model = dgm.CovarianceRBM(visible=5, covariance=4)
        >>> model().free_energy(torch.zeros(2, 5)).shape
        torch.Size([2])
    """

    def __init__(self, visible: int, covariance: int = 200) -> None:
        super().__init__()
        visible = check_columns(visible)
        covariance = check_count("covariance", covariance, what="the number of covariance units")
        self.visible, self.covariance = visible, covariance
        self.factor = nn.Parameter(torch.randn(visible, covariance) / visible**0.5)
        self.covariance_bias = nn.Parameter(torch.zeros(covariance))

    def forward(self) -> FreeEnergyDistribution:
        """The distribution over visible rows."""
        factor, bias = self.factor, self.covariance_bias

        def free_energy(x: Tensor) -> Tensor:
            return 0.5 * (x**2).sum(-1) - softplus(_covariance_field(x, factor, bias)).sum(-1)

        def energy(state: Mapping[str, Tensor]) -> Tensor:
            x, on = state["visible"], state["covariance"]
            return 0.5 * (x**2).sum(-1) - (on * _covariance_field(x, factor, bias)).sum(-1)

        return self.distribution(free_energy, {"factor": factor, "covariance_bias": bias}, energy, self.visible)

    def posterior(self, x: Tensor) -> Tensor:
        """The probabilities that hidden units are on, ``rows x covariance``."""
        return _on(x, self.factor, self.covariance_bias)

    def conditional(self, covariance: Tensor) -> dist.MultivariateNormal:
        """The normal of x given states of the hidden units, ``batch_shape x covariance``; its ``event_shape`` is (visible,)."""
        return gaussian_given(covariance.new_zeros((*covariance.shape[:-1], self.visible)), covariance, self.factor)

    def options(self) -> dict[str, Any]:
        return {"visible": self.visible, "covariance": self.covariance}

    @classmethod
    def example(cls) -> tuple[Self, Tensor]:
        return seeded(lambda: cls(visible=3, covariance=4), lambda: torch.randn(10, 3), scale=0.7)


def _covariance_field(x: Tensor, factor: Tensor, bias: Tensor) -> Tensor:
    return bias - 0.5 * (x @ factor) ** 2


def _on(x: Tensor, factor: Tensor, bias: Tensor) -> Tensor:
    return torch.sigmoid(_covariance_field(x, factor, bias))


def _free_energy(parameters: tuple[Tensor, ...], x: Tensor) -> Tensor:
    weight, factor, mean_bias, covariance_bias = parameters
    return (
        0.5 * (x**2).sum(-1)
        - softplus(mean_bias + x @ weight).sum(-1)
        - softplus(_covariance_field(x, factor, covariance_bias)).sum(-1)
    )


def _energy(parameters: tuple[Tensor, ...], state: Mapping[str, Tensor]) -> Tensor:
    weight, factor, mean_bias, covariance_bias = parameters
    x, mean, on = state["visible"], state["mean"], state["covariance"]
    return (
        0.5 * (x**2).sum(-1)
        - (mean * (mean_bias + x @ weight)).sum(-1)
        - (on * _covariance_field(x, factor, covariance_bias)).sum(-1)
    )
