"""Speed of autoregressive networks, as in ``test_speed.py``."""

import pytest
import torch

import pyro_dgm as dgm

from .speed import ratios

pytestmark = pytest.mark.benchmark(group="ratio")


def bits(rows=100, columns=784):
    """A fifth of ones, as in handwritten digits."""
    return (torch.rand(rows, columns) < 0.2).float()


def loop_over_columns(x, W, V, c, b):
    """Equation 20.83 in torch, all rows at once, for autograd to differentiate."""
    a, logits = c.expand(len(x), len(c)), []
    for i, (into, out) in enumerate(zip(W.unbind(0), V.unbind(0), strict=True)):
        logits.append(torch.sigmoid(a) @ out)
        a = torch.addr(a, x[:, i], into)
    signs = 2 * x - 1
    return torch.nn.functional.logsigmoid(signs * (torch.stack(logits, 1) + b)).sum(1)


def gradient(log_prob, parameters):
    return torch.autograd.grad(log_prob.mean(), parameters)


def test_nade_gradient(benchmark):
    """Log-likelihood and gradient of a NADE, 784×500, batch 100, against a loop over the columns."""
    x, nade = bits(), dgm.NADE(784, 500)
    parameters = list(nade.parameters())
    shapes = [(784, 500), (784, 500), (500,), (784,)]
    W, V, c, b = ((0.05 * torch.randn(shape)).requires_grad_() for shape in shapes)
    ratios(
        benchmark,
        "NADE log-likelihood and gradient, 784×500, batch 100, against a loop over the columns",
        "≤ 0.5",
        rounds=10,
        nade=lambda: gradient(nade().log_prob(x), parameters),
        loop=lambda: gradient(loop_over_columns(x, W, V, c, b), [W, V, c, b]),
    )


def test_nade_is_linear_in_its_hidden_units(benchmark):
    """The same with four times the hidden units."""
    x, small, large = bits(), dgm.NADE(784, 250), dgm.NADE(784, 1000)
    ratios(
        benchmark,
        "NADE log-likelihood and gradient, 1000 hidden units, against 250",
        "≤ 4",
        rounds=10,
        thousand=lambda: gradient(large().log_prob(x), list(large.parameters())),
        quarter=lambda: gradient(small().log_prob(x), list(small.parameters())),
    )


def test_nade_draws(benchmark):
    """100 images of 784 pixels from a NADE of 500 hidden units."""
    nade = dgm.NADE(784, 500)

    def through_the_whole_network():
        """What a draw costs where there is no recursion: a pass for every column, here for one in 28."""
        with torch.no_grad():
            for _ in range(28):
                nade().log_prob(torch.zeros(100, 784))

    ratios(
        benchmark,
        "100 draws of a NADE, 784×500, against 28 of the 784 passes that a network without recursion takes",
        "",
        rounds=10,
        draws=lambda: nade.sample(100),
        passes=through_the_whole_network,
    )
