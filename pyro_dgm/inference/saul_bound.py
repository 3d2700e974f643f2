"""The mean-field bound of Saul, Jaakkola and Jordan for layered sigmoid belief networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NEWTON_STEPS = 4
"""Newton steps of every search for xi; each of them shortens the bracket."""


class SaulBound:
    r"""A lower bound of $\log p(x)$ in closed form, for every row, by factorial means (Saul, Jaakkola and Jordan 1996).

    With $q(h) = \prod_j \mu_j^{h_j} (1 - \mu_j)^{1 - h_j}$ and $z_i = b_i + \sum_j W_{ij} h_j$ the ELBO of section 20.10.1
    needs $E_q \log(1 + e^{z_i})$, which has no closed form. By Jensen's inequality it is, for any $\xi_i$, at most
    $\xi_i E z_i + \log E\left[e^{-\xi_i z_i} + e^{(1 - \xi_i) z_i}\right]$, where both expectations are products over the
    parents. So

    $\log p(x) \ge \sum_i \left(\mu_i - \xi_i\right) E z_i - \log E\left[e^{-\xi_i z_i} + e^{(1-\xi_i) z_i}\right]
    + \sum_j H(\mu_j)$

    with $\mu = x$ in the visible layer. Nothing is sampled: the same rows have the same bound.

    ``improve`` maximises the bound over one variable after the other. In $\xi_i$ it is concave, with its maximum in [0, 1],
    which a safeguarded Newton search finds. In $\mu_j$ it is the sum of a linear function, an entropy, and minus logarithms
    of linear functions, which are convex. Replaced by their tangents, these give the fixed-point equation of the paper,
    whose solution raises the bound. Units of a layer are updated in turn, all rows at once. No step lowers a row's bound.

    Args:
        weights: $W_1, \ldots, W_L$, each ``layer below x layer``.
        biases: $b_0, \ldots, b_L$, from the visible layer upwards.
        x: rows of zeros and ones, ``rows x visible``.
        means: the first $\mu$, ``rows x units`` for every latent layer, the lowest first; one half by default.

    Attributes:
        means: $\mu$ of all layers, the data first.
        xi: $\xi$ of all layers. That of the top layer is unused: its z is constant, so that the bound is exact there.

    Example:
        >>> import torch
        >>> bound = SaulBound([torch.zeros(2, 3)], [torch.zeros(2), torch.ones(3)], torch.ones(1, 2))
        >>> bound.improve()
        >>> bool(torch.isclose(bound.value(), torch.tensor(0.25).log()).all())
        True
    """

    def __init__(
        self, weights: Sequence[Tensor], biases: Sequence[Tensor], x: Tensor, means: Sequence[Tensor] | None = None
    ) -> None:
        self.weights, self.biases = [w.detach() for w in weights], [b.detach() for b in biases]
        tiny = torch.finfo(x.dtype).eps
        start = [x.new_full((len(x), len(b)), 0.5) for b in biases[1:]] if means is None else means
        self.means = [x, *(m.detach().clamp(tiny, 1 - tiny) for m in start)]
        self.xi = [x.new_full((len(x), len(b)), 0.5) for b in biases]

    def value(self) -> Tensor:
        """The bound of every row, in nats: ``rows``."""
        total = torch.zeros_like(self.means[0][:, 0])
        for layer, mean in enumerate(self.means):
            total = total + (mean * self._expected(layer) - self._softplus(layer, self.xi[layer])).sum(-1)
            if layer:
                total = total - (torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum(-1)
        return total

    def improve(self) -> None:
        """One round: all xi, then the means of every unit, the lowest layer first."""
        for layer in range(len(self.weights)):
            self._search(layer)
        for layer in range(1, len(self.means)):
            self._sweep(layer)

    def _expected(self, layer: int) -> Tensor:
        """E z of a layer's units: ``rows x units``."""
        if layer == len(self.weights):
            return self.biases[layer].expand_as(self.means[layer])
        return self.biases[layer] + self.means[layer + 1] @ self.weights[layer].t()

    def _softplus(self, layer: int, xi: Tensor) -> Tensor:
        """The upper bound of E log(1 + e^z) at xi: ``rows x units``."""
        if layer == len(self.weights):
            return torch.nn.functional.softplus(self.biases[layer]).expand_as(self.means[layer])
        return xi * self._expected(layer) + torch.logaddexp(
            self._log_moment(layer, -xi), self._log_moment(layer, 1 - xi)
        )

    def _log_moment(self, layer: int, t: Tensor) -> Tensor:
        """log E e^(t z) of a layer's units."""
        factors = _log_factor(self.means[layer + 1].unsqueeze(1), t.unsqueeze(-1) * self.weights[layer])
        return t * self.biases[layer] + factors.sum(-1)

    def _moments(self, layer: int, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log E e^(t z) with its first and second derivative in t."""
        mean, w = self.means[layer + 1].unsqueeze(1), self.weights[layer]
        exponent = t.unsqueeze(-1) * w
        factors = _log_factor(mean, exponent)
        tilted = mean * (exponent - factors).exp()  # the mean of h_j under the law tilted by e^(t z)
        value = t * self.biases[layer] + factors.sum(-1)
        return value, self.biases[layer] + (w * tilted).sum(-1), (w**2 * tilted * (1 - tilted)).sum(-1)

    def _search(self, layer: int) -> None:
        """Minimise the softplus bound, which is convex in xi, from the present xi."""
        old, expected = self.xi[layer], self._expected(layer)
        xi, low, high = old, torch.zeros_like(old), torch.ones_like(old)
        for _ in range(NEWTON_STEPS):
            a, da, dda = self._moments(layer, -xi)
            b, db, ddb = self._moments(layer, 1 - xi)
            share = torch.sigmoid(b - a)
            slope = expected - (1 - share) * da - share * db
            curvature = (1 - share) * dda + share * ddb + share * (1 - share) * (db - da) ** 2
            low, high = torch.where(slope < 0, xi, low), torch.where(slope > 0, xi, high)
            newton = xi - slope / curvature
            inside = (newton >= low) & (newton <= high)
            xi = torch.where(inside, newton, torch.where(slope == 0, xi, 0.5 * (low + high)))
        better = self._softplus(layer, xi) < self._softplus(layer, old)
        self.xi[layer] = torch.where(better, xi, old)

    def _sweep(self, layer: int) -> None:
        """Update the means of a layer, unit by unit; its children's moments are kept up to date."""
        mean, below, w = self.means[layer].clone(), self.means[layer - 1], self.weights[layer - 1]
        xi, field = self.xi[layer - 1], self._expected(layer) + (below - self.xi[layer - 1]) @ w
        low, high = self._log_moment(layer - 1, -xi), self._log_moment(layer - 1, 1 - xi)
        for unit in range(mean.shape[1]):
            mu, down, up = mean[:, unit : unit + 1], -xi * w[:, unit], (1 - xi) * w[:, unit]
            others_low, others_high = low - _log_factor(mu, down), high - _log_factor(mu, up)
            total = torch.logaddexp(low, high)
            # The slope of log E[...] in mu: E given h_j = 1 less E given h_j = 0, over E at the present mu.
            slope = (others_low + down - total).exp() - (others_low - total).exp()
            slope = slope + (others_high + up - total).exp() - (others_high - total).exp()
            mu = torch.sigmoid(field[:, unit] - slope.sum(-1)).unsqueeze(-1)
            mean[:, unit : unit + 1] = mu
            low, high = others_low + _log_factor(mu, down), others_high + _log_factor(mu, up)
        self.means[layer] = mean


def _log_factor(mean: Tensor, exponent: Tensor) -> Tensor:
    """log(1 - mean + mean e^exponent), which does not overflow."""
    return torch.logaddexp(torch.log1p(-mean), mean.log() + exponent)
