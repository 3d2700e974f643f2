"""Steps of games and of moment matching against bare torch, and the memory of a discrepancy."""

import torch
from torch.nn import functional as F

import pyro_dgm as dgm
from pyro_dgm.discrepancy import GaussianKernels, mean_discrepancy, root

from .speed import ratios


def stepped(objective, optimiser, x):
    """One batch of all turns, as ``fit`` takes it."""
    for turn in objective.turns(x):
        optimiser.zero_grad(set_to_none=True)
        turn.loss().backward()
        for group in optimiser.param_groups:
            if turn.groups is not None and group["name"] not in turn.groups:
                for parameter in group["params"]:
                    parameter.grad = None
        optimiser.step()


def test_gan_step(benchmark):
    """Generator 100-500-1000-784, discriminator 784-500-250-1, batch 100, alternating, fused Adam."""
    x = torch.rand(100, 784)
    options = {"discriminator": (500, 250), "activation": "leaky_relu", "dropout": 0.3}
    ours, theirs = (dgm.GAN(784, hidden=(500, 1000)) for _ in range(2))
    game = ours.objective(**options)
    game.attach(ours)
    optimiser = torch.optim.Adam(game.all_groups(ours), lr=1e-4, fused=True)
    generator, player = theirs.generator, theirs.objective(**options).discriminators[""]
    first = torch.optim.Adam(player.parameters(), lr=1e-4, fused=True)
    second = torch.optim.Adam(generator.parameters(), lr=1e-4, fused=True)

    def bare():
        with torch.no_grad():
            fake = torch.sigmoid(generator(torch.randn(100, 100)))
        first.zero_grad(set_to_none=True)
        (F.softplus(-player(x)).mean() + F.softplus(player(fake)).mean()).backward()
        first.step()
        second.zero_grad(set_to_none=True)
        player.requires_grad_(False)
        F.softplus(-player(torch.sigmoid(generator(torch.randn(100, 100))))).mean().backward()
        player.requires_grad_(True)
        second.step()

    ratios(
        benchmark, "GAN step, 100-500-1000-784 against 784-500-250-1, batch 100", "≤ 1.15",
        fit=lambda: stepped(game, optimiser, x), bare=bare,
    )  # fmt: skip


def test_gmmn_step(benchmark):
    """1000 rows against 1000 samples, six widths: ours keeps one matrix per pair of sets for the gradient."""
    x = torch.rand(1000, 784)
    ours, theirs = dgm.GMMN(784), dgm.GMMN(784)
    moments = ours.objective()
    moments.attach(ours)
    optimiser = torch.optim.Adam(moments.all_groups(ours), lr=1e-4, fused=True)
    plain = torch.optim.Adam(theirs.parameters(), lr=1e-4, fused=True)
    widths = GaussianKernels().squared_widths

    def kernel(a, b):
        squares = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist").square()
        return sum(torch.exp(squares / (-2 * s)) for s in widths)

    def bare():
        plain.zero_grad(set_to_none=True)
        y = torch.sigmoid(theirs.generator(2 * torch.rand(1000, 10) - 1))
        with torch.no_grad():
            within = kernel(x, x).mean()
        (within + kernel(y, y).mean() - 2 * kernel(x, y).mean()).clamp_min(1e-8).sqrt().backward()
        plain.step()

    ratios(
        benchmark, "GMMN step, 1000 rows against 1000 samples, six widths", "≤ 1.15", rounds=10,
        fit=lambda: stepped(moments, optimiser, x), bare=bare,
    )  # fmt: skip


def test_discrepancy(benchmark):
    """Value and gradient of the discrepancy alone, against its matrix products."""
    x, y = torch.rand(1000, 784), torch.rand(1000, 784, requires_grad=True)
    kernel = GaussianKernels()

    def ours():
        y.grad = None
        root(mean_discrepancy(x, y, kernel)).backward()

    def products():
        with torch.no_grad():
            for a, b in ((x, x), (y, y), (x, y)):
                square = a @ b.T
            for a in (y, x):  # the gradients of the two that depend on y
                square @ a

    ratios(
        benchmark, "discrepancy, 1000 against 1000 rows of 784, six widths", "", rounds=10, ours=ours, products=products
    )


def test_convolutional_generator(benchmark):
    """A step of the convolutional generator's gradient, as it is and with channels last."""
    plain = dgm.GAN(784, latent=64, hidden=(256,), body="convolutional", shape=(28, 28), normalise=True).generator
    last = dgm.GAN(784, latent=64, hidden=(256,), body="convolutional", shape=(28, 28), normalise=True).generator
    last.to(memory_format=torch.channels_last)
    z = torch.randn(100, 64)
    ratios(
        benchmark, "transposed-convolution generator, 28x28, (32, 64) channels 5x5, batch 100", "",
        channels_last=lambda: last(z).sum().backward(), plain=lambda: plain(z).sum().backward(),
    )  # fmt: skip
