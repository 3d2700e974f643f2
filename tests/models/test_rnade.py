"""RNADE against its equation in NumPy, quadrature, and what the scaled gradient promises."""

import numpy as np
import pytest
import scipy.stats
import torch
from oracles import boltzmann as oracle

import pyro_dgm as dgm
from pyro_dgm.autoregressive.outputs import FLOOR

FAMILY = pytest.mark.parametrize("family", ["gaussian", "laplace"])


def random(model, seed=0, scale=0.5):
    return oracle.randomise(model, torch.Generator().manual_seed(seed), scale)


def array(parameter):
    return parameter.detach().double().numpy()


def mixture(model, x, i):
    """Shares, means and scales of one column given those before it in the order."""
    net, k, order = model.network, model.components, model.network.order.tolist()
    a = array(net.hidden_bias) + sum(array(net.inputs)[j, 0] * x[j] for j in order[: order.index(i)])
    z = array(net.scale)[i] * a
    h = np.maximum(z, 0) if model.activation == "relu" else 1 / (1 + np.exp(-z))
    numbers = array(net.bias)[i] + array(net.outputs)[i] @ h
    if k == 1:
        return np.ones(1), numbers[:1], FLOOR + np.exp(numbers[1:])
    shares = np.exp(numbers[:k] - numbers[:k].max())
    return shares / shares.sum(), numbers[k : 2 * k], FLOOR + np.exp(numbers[2 * k :])


@FAMILY
@pytest.mark.parametrize("options", [{}, {"components": 1}, {"activation": "sigmoid", "scaled_gradient": False}])
def test_densities_are_the_equation_s(family, options):
    model = random(dgm.RNADE(4, 6, **{"components": 3, "order": [2, 0, 3, 1], "output": family, **options}))
    density = (scipy.stats.norm if family == "gaussian" else scipy.stats.laplace).pdf
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    expected = []
    for row in x.tolist():
        total = 0.0
        for i in range(4):
            shares, means, scales = mixture(model, row, i)
            total += np.log((shares * density(row[i], means, scales)).sum())
        expected.append(total)
    np.testing.assert_allclose(model().log_prob(x).detach(), expected, rtol=1e-4, atol=1e-4)


@FAMILY
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_integrates_to_one(family, order):
    """Trapezoids of width w on a range beyond which less than 1e-6 is left; a Laplace peak errs by w^2 / 12 s^2 or less."""
    model = random(dgm.RNADE(2, 5, components=2, output=family, order=order), scale=0.2).double()
    grid = torch.linspace(-20, 20, 401, dtype=torch.float64)
    with torch.no_grad():
        dist, x = model(), torch.cartesian_prod(grid, grid)
        density = dist.log_prob(x).exp().view(401, 401)
        least = FLOOR + dist.numbers(x)[..., 4:].exp().min()
    error = abs(float(torch.trapezoid(torch.trapezoid(density, grid), grid)) - 1)
    assert error < (1e-6 if family == "gaussian" else 2 * 0.1**2 / (12 * least**2))
    one = random(dgm.RNADE(1, 5, components=3, output=family)).double()
    grid = torch.linspace(-60, 60, 48_001, dtype=torch.float64)
    with torch.no_grad():
        assert abs(float(torch.trapezoid(one().log_prob(grid.unsqueeze(1)).exp(), grid)) - 1) < 1e-5


@FAMILY
def test_scaled_gradients_differ_by_the_scales_of_the_means_alone(family):
    """One row, so that the derivative by a column's bias is that by its numbers."""
    x, found = torch.tensor([[0.3, -1.0, 2.0]]), []
    for scaled in (False, True):
        model = random(dgm.RNADE(3, 6, components=4, output=family, scaled_gradient=scaled))
        model().log_prob(x).sum().backward()
        found.append(model.network.bias.grad.view(3, 3, 4))
    scales = FLOOR + model().numbers(x).detach().view(3, 3, 4)[:, 2].exp()
    torch.testing.assert_close(found[1][:, 1], found[0][:, 1] * scales)
    torch.testing.assert_close(found[1][:, [0, 2]], found[0][:, [0, 2]])
    assert (scales - 1).abs().min() > 1e-3


def test_scaled_gradients_change_no_density():
    x = torch.randn(5, 3)
    a, b = (random(dgm.RNADE(3, 6, components=4, scaled_gradient=s)) for s in (False, True))
    torch.testing.assert_close(a().log_prob(x), b().log_prob(x), rtol=1e-6, atol=1e-6)


@FAMILY
def test_draws_follow_the_conditionals(family):
    """Through its own distribution function a draw is uniform; Kolmogorov and Smirnov's test at one in a million."""
    torch.manual_seed(0)
    model = random(dgm.RNADE(2, 5, components=3, output=family, order=[1, 0]))
    law = (scipy.stats.norm if family == "gaussian" else scipy.stats.laplace).cdf
    drawn = model.sample(2000).double().numpy()
    for i in range(2):
        u = []
        for row in drawn:
            shares, means, scales = mixture(model, row, i)
            u.append((shares * law(row[i], means, scales)).sum())
        assert scipy.stats.kstest(u, "uniform").pvalue > 1e-6
    assert scipy.stats.kstest(np.array(u) ** 1.2, "uniform").pvalue < 1e-6


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"output": "cauchy"}, "output"),
        ({"components": 0}, "components"),
        ({"activation": "tanh"}, "activation"),
        ({"visible": 0}, "visible"),
    ],
)
def test_refusals(options, match):
    with pytest.raises(ValueError, match=match):
        dgm.RNADE(**{"visible": 3, **options})
