"""Steps of models' own chains against their products, and of walkback and diffusion against bare torch."""

import resource

import torch
from torch.nn import functional as F

import pyro_dgm as dgm

from .speed import chain, ratios
from .test_generator_speed import stepped


def test_denoising_chain_step(benchmark):
    """500 chains of 784-2000-784: corruption, two products, two non-linearities and a draw, against the two products."""
    model = dgm.DenoisingAutoencoder(784, hidden=(2000,), tied=True)
    step = chain(dgm.ModelChain(model), 500)
    x = step()["visible"]
    weight, bias, top = model.autoencoder.ladder.weights[0].detach(), torch.zeros(784), torch.zeros(2000)

    def products():
        torch.addmm(bias, torch.addmm(top, x, weight), weight.t())

    ratios(
        benchmark, "denoising chain, a step of 500 chains, 784-2000-784", "", ours=step, products=products,
    )  # fmt: skip


def test_gsn_chain_step(benchmark):
    """100 chains of 784-1500-1500, against its four products."""
    model = dgm.GSN(784)
    step = chain(dgm.ModelChain(model), 100)
    low, high = (w.detach() for w in model.ladder.weights)
    x, h = step()["visible"], torch.randn(100, 1500)

    def products():
        x @ low, h @ high.t(), h @ high, h @ low.t()

    ratios(benchmark, "GSN, a step of 100 chains, 784-1500-1500", "", ours=step, products=products)


def test_walkback_step(benchmark):
    """GSN 784-500-500, three walkback steps, batch 100, fused Adam, against the same written out."""
    x = torch.randint(0, 2, (100, 784)).float()
    ours, theirs = (dgm.GSN(784, hidden=(500, 500)) for _ in range(2))
    criterion = ours.objective(steps=3)
    criterion.attach(ours)
    optimiser = torch.optim.Adam(criterion.all_groups(ours), lr=1e-4, fused=True)
    plain = torch.optim.Adam(theirs.parameters(), lr=1e-4, fused=True)
    (low, high), (b, c, d) = theirs.ladder.weights, theirs.ladder.biases

    def bare():
        plain.zero_grad(set_to_none=True)
        at, second, cost = x, torch.zeros(100, 500), 0.0
        for _ in range(3):
            noisy = torch.where(torch.rand_like(at) < 0.4, torch.rand_like(at).round(), at)
            first = torch.tanh(torch.addmm(c, noisy, low) + second @ high.t())
            second = torch.tanh(torch.addmm(d, first, high) + 2 * torch.randn(100, 500)) + 2 * torch.randn(100, 500)
            logits = torch.addmm(b, first, low.t())
            cost = cost + F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / 300
            with torch.no_grad():
                at = torch.bernoulli(torch.sigmoid(logits))
        cost.backward()
        plain.step()

    ratios(
        benchmark, "walkback step, GSN 784-500-500, three steps, batch 100", "≤ 1.15",
        fit=lambda: stepped(criterion, optimiser, x), bare=bare,
    )  # fmt: skip


def test_diffusion_step(benchmark):
    """Bits, T = 1000, one term per row, batch 100, against the network, its loss and fused Adam."""
    x = torch.randint(0, 2, (100, 784)).float()
    ours, theirs = (dgm.DiffusionInversion(784, steps=1000, hidden=(500, 500)) for _ in range(2))
    criterion = ours.objective()
    criterion.attach(ours)
    optimiser = torch.optim.Adam(criterion.all_groups(ours), lr=1e-4, fused=True)
    plain = torch.optim.Adam(theirs.parameters(), lr=1e-4, fused=True)
    signal = theirs.signal.float()

    def back(noisy, clean, kept, there, noise):
        one = there * clean + (1 - there) * 0.5
        seen = noisy * (1 - noise / 2) + (1 - noisy) * noise / 2
        return one * seen / (one * seen + (1 - one) * (1 - seen))

    def bare():
        plain.zero_grad(set_to_none=True)
        time = torch.randint(2, 1001, (100,))
        kept, there = signal[time].unsqueeze(1), signal[time - 1].unsqueeze(1)
        noise = 1 - kept / there
        noisy = torch.bernoulli(kept * x + (1 - kept) / 2)
        log_ratio = (2 * noisy - 1) * (torch.log1p(kept) - torch.log1p(-kept))
        guess = torch.sigmoid(theirs.network(noisy, time / 1000) + theirs.offset + log_ratio)
        found = torch.lerp(back(noisy, 0.0, kept, there, noise), back(noisy, 1.0, kept, there, noise), guess)
        found = found * (1 - 2e-6) + 1e-6
        truth = back(noisy, x, kept, there, noise)
        entropy = torch.special.entr(truth) + torch.special.entr(1 - truth)
        divergence = -entropy - truth * found.log() - (1 - truth) * torch.log1p(-found)
        (1000 * divergence.sum(-1).mean()).backward()
        plain.step()

    ratios(
        benchmark, "diffusion step, 784 bits, T = 1000, 784-500-500-784, batch 100", "≤ 1.15",
        fit=lambda: stepped(criterion, optimiser, x), bare=bare,
    )  # fmt: skip


def test_bound_of_many_steps(benchmark):
    """All 1000 terms of 500 rows: time by the network's own passes, and memory that does not grow with T."""
    x = torch.randint(0, 2, (500, 784)).float()
    model = dgm.DiffusionInversion(784, steps=1000, hidden=(500, 500))
    dgm.log_likelihood(model, x[:10], rounds=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def passes():
        with torch.no_grad():
            for t in range(1000):
                model.network(x, torch.full((500,), t / 1000))

    ratios(
        benchmark, "bound of a diffusion, all 1000 terms of 500 rows of 784 bits", "", rounds=1,
        ours=lambda: dgm.log_likelihood(model, x, rounds=1), passes=passes,
    )  # fmt: skip
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    benchmark.extra_info["megabytes"] = grown
    assert grown < 500  # the states of all 1000 times would take 1.5 GB
